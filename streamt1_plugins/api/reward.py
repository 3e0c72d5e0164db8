"""The contract of a reward: frames and prompts in, one number per candidate out, everything in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable
from warnings import warn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from streamt1_plugins.api.types import Horizon

FrameKey = tuple[str, int]
"""(id of the candidate a frame belongs to, frame inside its chunk): in one run the same key means the same pixels.

The frames of an unfinished candidate, which early pruning judges, have ``.preview`` after the id, and those of the
preview decoder ``.tiny``.
"""


class Denoiser(Protocol):
    """The video model, for a reward that judges the newest chunk of N candidates with it (`Reward.denoiser_calls`).

    Tensors are on the model's device; none of them may be changed in place.
    """

    @property
    def latents(self) -> Tensor:
        """The candidates' chunks, ``[N, C, F, h, w]`` float32."""

    @property
    def before(self) -> Tensor | None:
        """The latent frame in front of each chunk, ``[N, C, 1, h, w]``; None where the video begins."""

    def noise(self, draw: int) -> Tensor:
        """Standard normal noise ``[N, C, F, h, w]``, the same for every candidate.

        It follows from the run's seed, the chunk and the number of the draw alone.
        """

    def predict(self, noisy: Tensor, sigma: float, *, prompted: bool = True) -> Tensor:
        """The flow ``noise - x_0`` that the model predicts, float32, for ``noisy = (1 - sigma) x_0 + sigma noise``.

        Both ``[N, C, F, h, w]``. After each candidate's own history, with the chunk's prompt or with an empty one; a
        transformer forward per candidate, counted.
        """

    def take(self, rows: Sequence[int]) -> Denoiser:
        """The same for the candidates `rows` alone, in that order."""


@dataclass(frozen=True, slots=True)
class RewardInput:
    """Frames and prompts of N candidates, for a reward to judge. Nothing here may be changed in place.

    video: ``[N, T, 3, H, W]`` float32 in ``[0, 1]``; the new chunk (short horizon), the sliding window (long), or the
    survivors' whole videos at the end. prompts: N prompts. fps: frames per second. chunk: index of the newest chunk,
    `chunk_count` of the video. new_frames: the part of T to judge: the new chunk, or all of a whole video; frames
    before it are what it is compared with. anchor: ``[N, T0, 3, H, W]``, the first chunk of each candidate's branch
    (they differ), None while the first chunk is the one being scored. frame_ids: N lists of T lineage keys. denoiser:
    the video model, for rewards that declare `denoiser_calls`; None for all others.
    """

    video: Tensor
    prompts: tuple[str, ...]
    fps: float
    chunk: int
    chunk_count: int
    new_frames: slice
    anchor: Tensor | None = None
    frame_ids: tuple[tuple[FrameKey, ...], ...] = ()
    denoiser: Denoiser | None = None

    def take(self, rows: Sequence[int]) -> RewardInput:
        """The input of the candidates `rows` alone, in that order; itself where that is all of them."""
        chosen = list(rows)
        if chosen == list(range(len(self.prompts))):
            return self
        place = as_slice(chosen)  # neighbours are views of the same frames, not copies of them
        return replace(
            self,
            video=self.video[place],
            prompts=tuple(self.prompts[row] for row in chosen),
            anchor=None if self.anchor is None else self.anchor[place],
            frame_ids=tuple(self.frame_ids[row] for row in chosen) if self.frame_ids else (),
            denoiser=None if self.denoiser is None else self.denoiser.take(chosen),
        )

    def to(self, device: str) -> RewardInput:
        """The input with its frames on `device`."""
        anchor = None if self.anchor is None else self.anchor.to(device)
        return replace(self, video=self.video.to(device), anchor=anchor)


def as_slice(indices: list[int]) -> slice | list[int]:
    """The slice that takes these elements, where they rise in equal steps; else the indices."""
    if not indices:
        return indices
    step = indices[1] - indices[0] if len(indices) > 1 else 1
    regular = range(indices[0], indices[-1] + 1, step) if step > 0 else ()
    return slice(indices[0], indices[-1] + 1, step) if list(regular) == indices else indices


@dataclass(frozen=True, slots=True)
class RewardOutput:
    """The scores of N candidates.

    scores: ``[N]`` float, higher is better; NaN makes that candidate invalid. parts: named ``[N]`` details. valid:
    ``[N]`` bool, False makes a candidate invalid whatever its score; None where the scores alone decide.
    """

    scores: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    valid: Tensor | None = None


class Reward(ABC):
    """Base of rewards: declare class attributes, optionally load weights, score candidates.

    Subclass as a dataclass; its fields are the recipe's `options`. A reward is called under ``torch.inference_mode``
    and must leave its inputs and torch's global random state alone: the core checks both.

    horizons: those it makes sense on. needs_prompt: it reads the prompt, so runs without one are refused. license and
    weights: of what `load` brings, and where that comes from; weights_mb: its size. batch_limit: the most candidates
    of one call, None for any number. batch_exact: a score is the same to the last bit whatever shares the call; where
    it is not, exact searches (``search.batch: 1``) score one candidate a call. lead_frames: how many frames before the
    new chunk it needs on the short horizon, where there are any. deterministic: whether the same input
    gives the same score.
    """

    horizons: ClassVar[tuple[Horizon, ...]] = ("short", "long")
    needs_prompt: ClassVar[bool] = False
    license: ClassVar[str] = "Apache-2.0"
    weights: ClassVar[str] = "none"
    weights_mb: ClassVar[float] = 0
    batch_limit: ClassVar[int | None] = None
    batch_exact: ClassVar[bool] = False
    lead_frames: ClassVar[int] = 0
    deterministic: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "licence" in vars(cls):
            warn(
                f"{cls.__qualname__}.licence is deprecated: declare `license` instead. Version 0.3 ignores `licence`.",
                DeprecationWarning,
                stacklevel=3,  # the class statement, past ABCMeta
            )
            cls.license = vars(cls)["licence"]

    def load(self, device: str) -> None:  # noqa: B027  (most weight-free rewards have nothing to load)
        """Bring weights to `device`; called before the first `score` and again after `offload` or `unload`."""

    def check_prompt(self, prompt: str) -> None:  # noqa: B027  (most rewards read any prompt)
        """Raise `InputError` for a prompt it cannot read. Called before anything is generated, and without `load`."""

    def denoiser_calls(self) -> int:
        """Predictions by the video model that the score of one candidate takes; 0 for a reward that judges frames.

        Above 0, `inp.denoiser` is there. The forwards count as the search's own. Such a reward judges the newest chunk,
        on both horizons; a whole video has the mean of its chunks. It cannot run in another process.
        """
        return 0

    @abstractmethod
    def score(self, inp: RewardInput) -> RewardOutput:
        """Scores of N candidates; they must not depend on which candidates share the batch."""

    def offload(self) -> None:
        """Give the device's memory back until the next `load`. Override it to keep the weights in main memory."""
        self.unload()

    def unload(self) -> None:  # noqa: B027  (as for `load`)
        """Free what `load` brought."""

    def reset(self) -> None:  # noqa: B027  (most rewards remember nothing)
        """Forget what was kept by `frame_ids`; called before a run, whose keys mean other pixels, and at its end."""


@runtime_checkable
class JudgesScenes(Protocol):
    """A reward that reads all scenes of a whole video together, as a judge of comparisons. Optional.

    Without it, each scene is judged like a video of its own, and the mean over frames counts.
    """

    def score_scenes(self, scenes: Sequence[RewardInput]) -> RewardOutput:
        """Scores of N videos; `scenes` has an input per scene, in order, with the scene's prompt and all its frames."""


DECLARED = tuple(Reward.__annotations__)
"""The class attributes that describe a reward; `streamt1 plugins --details` shows them."""
