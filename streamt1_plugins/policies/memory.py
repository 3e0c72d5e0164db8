"""Stream-Scaled Memory Sinking (paper, unit 3): reward feedback decides what evicted context becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import MemoryRoute, Node


def route(
    gain: float, loss: float, short_threshold: float, long_threshold: float, on_break: MemoryRoute = "append"
) -> MemoryRoute:
    """Locally good and globally consistent refines the newest sink, locally good but a long-term break opens one.

    gain: short reward of this chunk minus the mean of earlier chunks. loss: long reward of the previous chunk minus
    this one's. Both compared strictly; NaN (not measured) never passes a threshold.
    """
    if not gain > short_threshold:
        return "discard"
    return on_break if loss > long_threshold else "ema"


def feedback(past: Sequence[Node], candidate: Node, history: int | None) -> tuple[float, float]:
    """(gain, loss) of a candidate after the chunks `past` of its branch; `history` limits the mean to the newest."""
    shorts = [earlier.short for earlier in (past if history is None else past[-history:])]
    return candidate.short - fmean(shorts), past[-1].long - candidate.long


@dataclass(frozen=True)
class RewardFeedback:
    """Routes by the rewards of the candidate's own branch.

    Thresholds are in calibrated reward units. history: `window` compares with the chunks inside `rewards.window`, as
    the paper means it; `all` with every earlier chunk, as the authors' release does. on_break: the route of a good
    chunk that breaks with the video before it: `append` (paper), or `flush`, for videos with scene cuts, after which
    nothing of the old scene is remembered.
    """

    needs_frames: ClassVar[bool] = False
    compares_chunks: ClassVar[bool] = True

    short_threshold: float = 0.0
    long_threshold: float = 0.2
    history: Literal["window", "all"] = "window"
    on_break: Literal["append", "flush"] = "append"

    @property
    def routes(self) -> frozenset[MemoryRoute]:
        """The routes it may answer with."""
        return frozenset({"discard", "ema", self.on_break})

    @hookimpl
    def streamt1_route_memory(self, run: Run, candidate: Candidate) -> MemoryRoute:
        past = candidate.beam.path
        history = max(1, run.recipe.rewards.window - 1) if self.history == "window" else None
        gain, loss = feedback(past, candidate, history)
        return route(gain, loss, self.short_threshold, self.long_threshold, self.on_break)


@dataclass(frozen=True)
class FixedRoute:
    """The same route for every chunk; `discard` is the plain sink-plus-window memory.

    route: one of those that the adapter's memory has, see `streamt1 plugins`.
    """

    route: str = field(default="discard", metadata={"acts": "text"})

    @property
    def routes(self) -> frozenset[MemoryRoute]:
        """The routes it may answer with."""
        return frozenset({self.route})

    @hookimpl
    def streamt1_route_memory(self) -> MemoryRoute:
        return self.route
