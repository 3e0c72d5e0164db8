"""The words every part speaks: chunk, beam, proposal, candidate, route, run. All immutable but `Run`.

Tensors named `noise` or `latents` are ``[1, C, F, h, w]`` (F latent frames of one chunk); frames are
``[T, 3, H, W]`` float in ``[0, 1]``.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from streamt1_plugins.team import Alone

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Generator, Tensor

    from streamt1_plugins.adapter import Decoded, History, Session
    from streamt1_plugins.recipe import Recipe
    from streamt1_plugins.team import Team
    from streamt1_plugins.tree import Tree

MemoryRoute = Literal["discard", "ema", "append"]
"""What becomes of a chunk's context when it leaves the memory window (paper: Stream-Scaled Memory Sinking)."""

Horizon = Literal["short", "long"]
"""`short`: the frames of this chunk. `long`: the frames of the sliding window that ends with this chunk."""

Fate = Literal["kept", "pruned", "invalid"]

EARLY = 0
"""The `Node.stage` of candidates that an early look left unfinished; stages of rewards count from 1."""

HORIZONS: tuple[Horizon, ...] = ("short", "long")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One step of the video: `index` of `count` chunks."""

    index: int
    count: int

    @property
    def progress(self) -> float:
        """0 for the first chunk, 1 for the last one (0 when the video has a single chunk)."""
        return self.index / max(1, self.count - 1)

    @property
    def is_first(self) -> bool:
        return self.index == 0

    @property
    def is_last(self) -> bool:
        return self.index == self.count - 1


@dataclass(frozen=True, slots=True)
class Proposal:
    """How a beam may go on: a seed and the initial noise it leads to.

    `generator` stands behind the first draw, so that stochastic sampling steps continue the same stream; None is the
    plain pipeline's own stream.
    `propagated` tells whether `noise` mixes in the parent's noise.
    """

    seed: int
    noise: Tensor
    generator: Generator | None
    propagated: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reward said of one candidate on one horizon. `value` is `raw` after calibration; higher is better."""

    raw: float
    value: float
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Node:
    """What the tree keeps of a candidate: no tensors. Fields fill up on its way: generated, measured, scored, routed.

    `short` and `long` are the weighted means of the calibrated readings of that horizon, NaN where none was taken.
    `problem` says why a candidate is invalid. `ordinal` counts the candidates of one chunk over all beams; `parent` is
    the `id` of the node it continues, None in the first chunk. `rank` is the place among the survivors, 0 = best.
    `stage` is the stage of the rewards after which it was pruned, so later ones never saw it; None where all did.
    With `EARLY` it was never finished, and its readings are those of its preview.
    """

    chunk: int
    ordinal: int
    parent: str | None
    seed: int
    propagated: bool = False
    readings: Mapping[Horizon, Mapping[str, Reading]] = field(default_factory=lambda: MappingProxyType({}))
    short: float = float("nan")
    long: float = float("nan")
    score: float = float("nan")
    route: MemoryRoute | None = None
    fate: Fate | None = None
    rank: int | None = None
    problem: str | None = None
    stage: int | None = None
    seconds: float = 0.0

    @property
    def id(self) -> str:
        return f"{self.chunk:03d}.{self.ordinal:02d}"

    @property
    def is_valid(self) -> bool:
        return self.problem is None

    @property
    def is_finished(self) -> bool:
        """Whether its latents, frames and readings are those of a whole candidate."""
        return self.stage != EARLY

    @property
    def is_eligible(self) -> bool:
        """Whether it can survive: valid, and not left behind by a stage of the rewards or before."""
        return self.is_valid and self.stage is None


@dataclass(frozen=True, kw_only=True)
class Candidate(Node):
    """A beam's proposed next chunk, while it is being judged: a node and its tensors."""

    beam: Beam = field(repr=False, compare=False)
    noise: Tensor = field(repr=False, compare=False)
    latents: Tensor = field(repr=False, compare=False)
    decoded: Decoded = field(repr=False, compare=False)

    def node(self) -> Node:
        """The record of this candidate, without its tensors."""
        return Node(**{item.name: getattr(self, item.name) for item in fields(Node)})


@dataclass(frozen=True, slots=True)
class Beam:
    """A surviving branch: everything its next candidates need, shared and never changed.

    `path` holds the chosen node of every chunk so far, oldest first. `noise` is the initial noise of the last chunk
    after mixing. `rank` is the place in the last selection, 0 = best.
    """

    history: History
    path: tuple[Node, ...] = ()
    noise: Tensor | None = None
    rank: int = 0

    @property
    def last(self) -> Node | None:
        return self.path[-1] if self.path else None


@dataclass
class Cost:
    """What a run has spent: counts, and seconds by stage (`generate`, `decode`, `reward`, `commit`).

    `readings`: verdicts of one reward on one candidate; one call of a reward gives many. `readings_saved`: those that
    a cascade of rewards, or an early look, did not have to ask for.
    """

    candidates: int = 0
    forwards: int = 0
    latent_frames_decoded: int = 0
    reward_calls: int = 0
    readings: int = 0
    readings_saved: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to `seconds[stage]`."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - start


@dataclass
class Run:
    """One call of a wrapped pipeline, as every hook sees it.

    Hooks read it; only the search changes `beams` (best first), `chunk` and `cost`, and adds to `tree`. `call` holds
    the arguments as the caller gave them and the generator behind `seed`. `resumed` tells recorders to go on with the
    record of an interrupted run. Whoever sets `stop` ends the search after the chunk at hand, as if it were the last.
    `team`: the processes that share the candidates. `batch_limit`: how many memory turned out to hold at once.
    """

    recipe: Recipe
    session: Session
    tree: Tree
    prompt: str
    seed: int
    beams: tuple[Beam, ...] = ()
    chunk: Chunk | None = None
    cost: Cost = field(default_factory=Cost)
    call: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    resumed: bool = False
    stop: bool = False
    team: Team = field(default_factory=Alone)
    batch_limit: int | None = None

    @property
    def is_plain(self) -> bool:
        """One candidate per chunk: nothing to search, so the plain pipeline's own noise stream is used."""
        return not self.recipe.search.is_wide

    def chunks(self) -> Iterator[Chunk]:
        """The chunks still to come, in order."""
        done = self.beams[0].history.index if self.beams else 0
        return (Chunk(index, self.session.num_chunks) for index in range(done, self.session.num_chunks))
