"""Stream-Scaled Memory Sinking (paper, unit 3): reward feedback decides what evicted context becomes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import MemoryRoute, Node


def route(gain: float, loss: float, short_threshold: float, long_threshold: float) -> MemoryRoute:
    """Locally good and globally consistent refines the newest sink, locally good but a long-term break opens one.

    gain: short reward of this chunk minus the mean of earlier chunks. loss: long reward of the previous chunk minus
    this one's. Both compared strictly; NaN (not measured) never passes a threshold.
    """
    if not gain > short_threshold:
        return "discard"
    return "append" if loss > long_threshold else "ema"


def feedback(past: Sequence[Node], candidate: Node, history: int | None) -> tuple[float, float]:
    """(gain, loss) of a candidate after the chunks `past` of its branch; `history` limits the mean to the newest."""
    shorts = [earlier.short for earlier in (past if history is None else past[-history:])]
    return candidate.short - fmean(shorts), past[-1].long - candidate.long


@dataclass(frozen=True)
class RewardFeedback:
    """Routes by the rewards of the candidate's own branch.

    Thresholds are in calibrated reward units. history: `window` compares with the chunks inside `rewards.window`, as
    the paper means it; `all` with every earlier chunk, as the authors' release does.
    """

    compares_chunks: ClassVar[bool] = True

    short_threshold: float = 0.0
    long_threshold: float = 0.2
    history: Literal["window", "all"] = "window"

    @hookimpl
    def streamt1_route_memory(self, run: Run, candidate: Candidate) -> MemoryRoute:
        past = candidate.beam.path
        history = max(1, run.recipe.rewards.window - 1) if self.history == "window" else None
        return route(*feedback(past, candidate, history), self.short_threshold, self.long_threshold)


@dataclass(frozen=True)
class FixedRoute:
    """The same route for every chunk; `discard` is the plain sink-plus-window memory."""

    route: Literal["discard", "ema", "append"] = "discard"

    @hookimpl
    def streamt1_route_memory(self) -> MemoryRoute:
        return self.route
