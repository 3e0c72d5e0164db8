"""The protocols of pipeline adapters and of their sessions, which work on immutable histories.

Any class with these methods is an adapter; there is no base class. Shapes: `latents` are ``[N, C, F, h, w]`` (N
candidates, F latent frames of one chunk), and so is `noise`, or ``[N, D, C, F, h, w]`` where a chunk takes D draws (see
`HasDraws`); frames are ``[T, 3, H, W]`` float in ``[0, 1]``.
"""

from __future__ import annotations

from collections.abc import Mapping  # at run time: fields are read by their types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from streamt1_plugins.config.schema import MemoryPlan as MemoryPlan  # authors import it from here

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Generator, Tensor

    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_plugins.config.schedule import Scene


Feature = Literal["early_pruning", "previews", "schedule", "predictions", "cost_estimate", "memory_estimate"]
"""What an adapter may lack: the parts of the protocol that are optional. All else works with every adapter."""

FEATURES: tuple[Feature, ...] = get_args(Feature)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a session can do, as data. `streamt1 plugins` prints it and the search obeys it.

    `max_batch`: candidates per `generate` call, None for any number, 1 where the pipeline cannot batch reproducibly.
    `routes`: the routes its memory understands; empty where there is no KV memory to route.
    `decode`: `carried` (causal decoder state), `independent` (every chunk alone) or `blended` (revises earlier frames).
    `noise_stream`: whether the plain pipeline draws noise per chunk or once for the whole video.
    `stochastic_steps`: `generate` draws from the candidates' generators (noise inside the pipeline's own steps).
    `global_rng`: the pipeline touches torch's global generator.
    `refusals`: why a feature cannot be offered, by feature: `early_pruning` needs `HasDraft`, `previews` needs
    `HasPreview`, `schedule` needs `HasScenes`, `predictions` need `CanPredict`, `cost_estimate` needs `HasOutline` and
    `OutlinedSession`, `memory_estimate` needs `HasFootprint`.
    """

    max_batch: int | None
    routes: frozenset[MemoryRoute]
    decode: Literal["carried", "independent", "blended"]
    noise_stream: Literal["per_chunk", "whole_video"]
    stochastic_steps: bool
    global_rng: bool = False
    refusals: Mapping[Feature, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Outline:
    """Transformer forwards of a call, without a pipeline: one entry per chunk, the last one included.

    `generate`: transformer forwards of one candidate. `commit`: those of one survivor's clean pass. `latent_frames`: of
    a chunk, which one candidate's decode makes frames of. `steps`: denoising steps, which share the forwards of a
    candidate evenly; empty where sessions make no drafts (see `HasDraft`). `previews`: whether sessions have a preview
    decoder (see `HasPreview`).
    """

    generate: tuple[int, ...]
    commit: tuple[int, ...]
    latent_frames: int
    steps: tuple[int, ...] = ()
    previews: bool = False


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes a call keeps in memory, without loading the model.

    `weights`: of the whole pipeline. `memory`: of one beam when its memory is full. `reading`: what a forward pass
    makes of a memory to read it, once for all candidates. `latents`, `frames`, `state`: one candidate's chunk, and the
    decoder state behind it. `chunks`: of the whole video. `preview`: the preview decoder's state behind a candidate,
    None where there is no such decoder.
    """

    weights: int
    memory: int
    reading: int
    latents: int
    frames: int
    state: int
    chunks: int
    preview: int | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """Frames ``[T, 3, H, W]`` of one candidate's chunk and the decoder state behind them (the adapter's own)."""

    frames: Tensor
    state: Any = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A candidate after its first denoising steps.

    `latents`: the estimate of the clean chunk so far, ``[1, C, F, h, w]``, which can be decoded. `state`: whatever else
    the session needs to continue (the adapter's own).
    """

    latents: Tensor
    state: Any = None


@dataclass(frozen=True, slots=True)
class History:
    """Committed chunks of one branch. Immutable: a fork is a reference.

    `latents`: ``[1, C, F_k, h, w]`` per chunk; `frames`: ``[T_k, 3, H, W]`` per chunk; `memory` (KV blocks with their
    routes) and `decoder` (causal VAE cache) belong to the adapter.
    """

    index: int = 0
    latents: tuple[Tensor, ...] = ()
    frames: tuple[Tensor, ...] = ()
    memory: Any = None
    decoder: Any = None


class Session(Protocol):
    """One call of the wrapped pipeline. `generate` commits nothing; `commit` advances."""

    capabilities: Capabilities
    num_chunks: int
    fps: float
    prompt: str

    @property
    def forwards(self) -> int:
        """Transformer forwards so far, every candidate of a batch counted. Read-only: callers count by differences."""

    @property
    def generator(self) -> Generator:
        """The pipeline's own noise stream, which is the call's generator; the same object for the whole session.

        Candidates drawn and generated with this object, chunk after chunk, are those the plain pipeline makes. A
        session recognises it by identity, where the plain pipeline draws otherwise than a candidate does.
        """

    def root(self) -> History:
        """What every branch starts from: the empty history, or one with the frames the call continues (`index` > 0)."""

    def draw(self, history: History, generator: Generator) -> Tensor:
        """Fresh noise ``[1, C, F, h, w]`` for the next chunk, from a candidate's generator or `self.generator`."""

    def generate(self, history: History, noise: Tensor, generators: Sequence[Generator]) -> Tensor:
        """Denoised latents of N candidates of the next chunk, ``[N, C, F, h, w]``; memory is read only.

        generators: for draws that are not part of `noise`, in the order of the candidates.
        The result has as many frames as the noise, or fewer where part of the noise covers frames that are there.
        """

    def decode(self, history: History, latents: Tensor) -> list[Decoded]:
        """Frames of THIS chunk for N candidates, continuing the history's decoder state.

        With an empty `root()` as history this is a cold decode, and then `latents` may hold any number of latent
        frames. A session whose root is not empty takes a plain `History()` for it.
        """

    def commit(self, history: History, latents: Tensor, decoded: Decoded, route: MemoryRoute) -> History:
        """The history with one survivor ``[1, C, F, h, w]`` and its route; the clean pass writes its context."""

    def finish(self, history: History) -> Any:
        """What the plain pipeline returns for these chunks, in the caller's output type."""

    def close(self) -> None:
        """Give the pipeline back as it was."""


@runtime_checkable
class HasDraws(Protocol):
    """A session whose chunk takes several draws, all of which it accepts as one value. Optional.

    With noise ``[N, D, C, F, h, w]`` (D = `draws`, the initial noise first, then one draw per step that adds noise),
    `generate` and `draft` are pure functions of history and noise. Given the initial noise alone, ``[N, C, F, h, w]``,
    the session takes the other draws from the generators.
    """

    def draws(self, history: History) -> int:
        """How many draws the next chunk takes: the initial noise, which `draw` returns, and later ones."""

    def redraw(self, history: History, generator: Generator) -> Tensor:
        """One later draw of the next chunk, ``[1, C, F, h, w]``."""


@runtime_checkable
class HasDraft(Protocol):
    """A session that can stop after some denoising steps and continue later. Optional: early pruning needs it.

    Drafting and finishing gives what `generate` gives, to the last bit for candidates made one at a time; each
    candidate's generator is drawn from in the same order.
    """

    def steps(self, history: History) -> int:
        """Denoising steps of the next chunk."""

    def draft(self, history: History, noise: Tensor, generators: Sequence[Generator], steps: int) -> list[Draft]:
        """The first `steps` of N candidates, at least one and fewer than all; memory is read only."""

    def finish_drafts(self, history: History, drafts: Sequence[Draft], generators: Sequence[Generator]) -> Tensor:
        """The other steps of N drafts of one history, ``[N, C, F, h, w]``; not always those drafted together."""


@runtime_checkable
class HasPreview(Protocol):
    """A session with a decoder that is much cheaper than `decode` and less exact. Optional: `rewards.decode: preview`
    has rewards score its frames, and `decode` is called for survivors alone.
    """

    @property
    def preview_problem(self) -> str | None:
        """Why there is no preview decoder at the moment, with the file to download; None where there is one."""

    def preview(self, latents: Tensor, state: Any) -> list[Decoded]:
        """Frames of the next chunk of N candidates, as many and as large as `decode` gives, in ``[0, 1]``.

        state: of the preview before, None at the start of the video. It is a value: a fork is a reference. Chunk by
        chunk it gives what the whole video at once gives.
        """


@runtime_checkable
class CanPredict(Protocol):
    """A session that can run its denoiser once on given latents. Optional: rewards that judge a chunk with the video
    model itself need it (see `Reward.predictions`).
    """

    @property
    def prediction_problem(self) -> str | None:
        """Why this pipeline's denoiser cannot be run on given latents; None where it can."""

    def predict(self, history: History, noisy: Tensor, sigma: float, *, prompted: bool = True) -> Tensor:
        """The flow ``noise - x_0`` predicted for N noisy versions of the next chunk, both ``[N, C, F, h, w]``.

        noisy: ``(1 - sigma) x_0 + sigma noise`` with sigma in ``(0, 1]``; float32 latents of candidates or any others.
        prompted: with the prompt of the chunk, or with an empty one. Without guidance, so one transformer forward per
        row, counted in `forwards`. Draws nothing, calls no callback, and changes neither the history nor what the
        session makes later.
        """


class Adapter(Protocol):
    """Opens sessions on one family of pipelines. Its constructor's arguments are the recipe's `adapter` options."""

    def open(self, pipe: Any, call: Mapping[str, Any], memory: MemoryPlan) -> Session:
        """A session of one call, once the pipeline and the arguments are checked.

        Raises `UnsupportedPipelineError` for a pipeline it cannot drive, `InputError` for arguments it cannot use.
        """

    def load(self, model: str) -> Any:
        """A pipeline of this family, loaded from a folder or a hub id."""


@runtime_checkable
class HasOwnCall(Protocol):
    """An adapter of pipelines whose own call makes the video of a session without a search. Optional.

    Without a search, calls that sessions cannot carry to the last bit (a batch, a callback that may change anything)
    then go to the pipeline itself.
    """

    def own_call(self, pipe: Any, call: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments for the pipeline's own call: `call`, over the adapter's defaults.

        Raises `UnsupportedPipelineError` for a pipeline of another family.
        """


@runtime_checkable
class HasOutline(Protocol):
    """An adapter that can also give the forwards of a call. Optional: `streamt1 recipes validate` uses it."""

    def outline(self, num_frames: int | None = None) -> Outline:
        """The forwards of a call of that many frames, or of the adapter's own length. Loads nothing.

        Raises `InputError` for a length it cannot make.
        """


@runtime_checkable
class OutlinesScenes(Protocol):
    """An adapter with an outline that can also add what a prompt that changes costs. Optional: without it, what scenes
    add is in no estimate that is made before the call.
    """

    def with_scenes(self, outline: Outline, scenes: Sequence[Scene], memory: MemoryPlan) -> Outline:
        """The outline of a call with these scenes, from that of the same call with one prompt."""


@runtime_checkable
class HasFootprint(Protocol):
    """An adapter that can also give what a call keeps in memory. Optional, like `HasOutline`."""

    def footprint(self, model: str, memory: MemoryPlan, num_frames: int | None = None) -> Footprint | None:
        """The bytes of a call on that folder or hub id, None where its files are not on this machine. Loads no weights.

        Raises `InputError` for a length it cannot make.
        """


@runtime_checkable
class HasCheck(Protocol):
    """An adapter that can also check a call before its model is loaded. Optional, like `HasOutline`."""

    def check(self, model: str, call: Mapping[str, Any]) -> None:
        """Raise `InputError` for a call on that folder or hub id that `open` would refuse. Loads no weights.

        What files on this machine do not show is not checked. `call` may lack the prompt.
        """


@runtime_checkable
class HasThreads(Protocol):
    """An adapter that can also give the CPU threads that a call gains from. Optional: without it none are limited."""

    def threads(self, pipe: Any, call: Mapping[str, Any]) -> int | None:
        """The most CPU threads that make a call quicker which runs on the CPU, None for as many as there are.

        A model of a few million weights is quickest on one thread.
        """


@runtime_checkable
class OutlinedSession(Protocol):
    """A session that can also give the forwards of its call. Optional: a budget of forwards plans with it."""

    def outline(self) -> Outline:
        """The forwards of this call; chunks that it continues count as chunks."""
