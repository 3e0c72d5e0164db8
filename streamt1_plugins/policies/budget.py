"""A budget per video: few candidates while their scores agree, more when a branch drifts, never more than is left.

The decision depends on the run's tree and cost alone, so a resumed run makes the same one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from streamt1_plugins.api.adapter import OutlinedSession
from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.config.rewards import Count, Seconds
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.policies.width import places, rest_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from streamt1_plugins.api.adapter import Outline
    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Chunk, Revision
    from streamt1_plugins.config.schema import SearchSettings

AGREEING, DRIFTING = 0.5, 2.0
"""What becomes of a chunk's even share of the budget."""
CLOCK = "The width follows the clock (width.seconds): the same recipe and seed may search differently another time."
SHORT = "Less of width.forwards is left than the least width takes: the run exceeds its budget."


@dataclass(frozen=True)
class RemainingBudget:
    """What is `left` for candidates, and what a width of one costs `now`, in this chunk, and `later`, in all others."""

    left: float
    now: float
    later: float

    @property
    def share(self) -> float:
        """The width that every chunk can have."""
        return self.left / (self.now + self.later)

    def most(self, least: int) -> float:
        """The width that this chunk can have if all others have the `least` one."""
        return (self.left - least * self.later) / self.now


def affordable(budget: RemainingBudget, wish: float, least: int, most: int) -> int:
    """`wish` times the even share, in whole candidates: no more than leaves the `least` for later, no less than it."""
    return max(least, math.floor(min(wish * budget.share, budget.most(least), most)))


def spread(values: Iterable[float]) -> float | None:
    """Standard deviation of what was measured; None for fewer than two values."""
    known = [value for value in values if math.isfinite(value)]
    return pstdev(known) if len(known) > 1 else None


def agree(spreads: Sequence[float], factor: float) -> bool:
    """Whether the last chunk's candidates differ at most `factor` times as much as those of a chunk before it did."""
    *before, last = spreads or (math.inf,)
    return bool(before) and last <= factor * fmean(before)


def drifts(longs: Sequence[float], margin: float) -> bool:
    """Whether a branch's last long reward lies more than `margin` below the mean of those before it; NaN never does."""
    *before, last = longs or (math.nan,)
    known = [each for each in before if math.isfinite(each)]
    return bool(known) and fmean(known) - last > margin


@dataclass(frozen=True)
class Budget:
    """Spends `forwards` (transformer forwards) or `seconds` on each video, one of the two.

    least, most: candidates per beam, also where the budget would allow fewer or more; most null is twice
    `search.candidates`. agree: a chunk's scores agree when they spread at most this share of what they did in the
    chunks before; the next chunk then has half its share of what is left. drift: a branch drifts when its long reward
    falls below the mean of its chunks by more than this share of the usual spread among candidates; it then has twice
    its share.
    """

    compares_chunks: ClassVar[bool] = True
    needs_search: ClassVar[bool] = True
    counts_beams: ClassVar[bool] = True

    forwards: Annotated[int, Field(ge=1, le=10**12)] | None = None
    seconds: Seconds | None = None
    least: Count = 1
    most: Count | None = None
    agree: Annotated[float, Field(ge=0)] = 0.5
    drift: Annotated[float, Field(ge=0)] = 0.5

    def __post_init__(self) -> None:
        if (self.forwards is None) == (self.seconds is None):
            raise RecipeError("A budget is `width.forwards` or `width.seconds` per video: name one of the two.")
        if self.most is not None and self.most < self.least:
            raise RecipeError(f"width.least = {self.least} is more than width.most = {self.most}.")

    def bounds(self, search: SearchSettings) -> tuple[int, int]:
        return self.least, max(self.least, 2 * search.candidates) if self.most is None else self.most

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        if self.seconds is not None:
            run.tree.note(CLOCK)

    @hookimpl(wrapper=True)
    def streamt1_revise(self, run: Run, chunk: Chunk) -> Generator[None, Revision | None, Revision | None]:
        """What the revision policy answers, unless too little is left for the least width of all that follows."""
        revision = yield
        if revision is None or self.forwards is None:
            return revision
        to = chunk.index if revision.back_to is None else revision.back_to
        left = Account(run, replace(chunk, index=to)).remaining(self)
        if left is None or left.most(self.least) >= self.least:
            return revision
        run.tree.note(f"Chunk {chunk.index}: no revision, because too little of width.forwards is left for it.")
        return None

    @hookimpl
    def streamt1_width(self, run: Run, chunk: Chunk, beam: Beam) -> int:
        (least, most), search = self.bounds(run.recipe.search), run.recipe.search
        remaining = Account(run, chunk).remaining(self)
        if remaining is None:  # of the two only forwards are a promise
            width = least if self.seconds is None else min(max(least, search.candidates), most)
        else:
            if self.forwards is not None and remaining.most(least) < least:
                run.tree.note(SHORT)
            width = affordable(remaining, self.wish(run.tree, beam, chunk.index), least, most)
        return width * places(beam, search)

    def wish(self, tree: Tree, beam: Beam, chunk: int | None = None) -> float:
        """How much of its even share the next chunk of `beam` should have. Drift comes first: it needs a way out.

        chunk: the one that is next, of which there may be candidates already.
        """
        chunks = [[n for n in tree.chunk(i) if n.is_eligible] for i in tree.chunks() if i != chunk]
        usual = [each for each in (spread(node.long for node in nodes) for nodes in chunks) if each is not None]
        if usual and drifts([node.long for node in beam.path], self.drift * fmean(usual)):
            return DRIFTING
        spreads = [spread(node.score for node in nodes) for nodes in chunks]
        known = [each for each in spreads if each is not None]
        last_is_known = bool(spreads) and spreads[-1] is not None
        return AGREEING if last_is_known and agree(known, self.agree) else 1.0


@dataclass(frozen=True)
class Account:
    """What a run has spent before a chunk, and the prices of what is to come."""

    run: Run
    chunk: Chunk

    def remaining(self, budget: Budget) -> RemainingBudget | None:
        """What is left of a budget; None where the price of a candidate is not known."""
        if budget.seconds:
            return self.seconds(budget.seconds)
        return self.forwards(budget.forwards or 0, budget.least)

    def forwards(self, budget: int, least: int = 1) -> RemainingBudget | None:
        """What is left of `budget` forwards, clean passes to come set aside.

        Prices are those of the session's outline, less what early pruning saves at least, and what rewards predict.
        Without an outline, a candidate costs what it has cost so far, clean passes included.
        """
        session, cost, index = self.run.session, self.run.cost, self.chunk.index
        if not isinstance(session, OutlinedSession):
            return self._at_mean_price(budget, cost.forwards)
        outline = session.outline()
        left = budget - cost.forwards - self.run.recipe.search.top_k * sum(outline.commit[index:])
        chunks = [self._price(outline, each, least) for each in range(index, len(outline.generate))]
        return self._remaining(left - sum(fixed for _, fixed in chunks), [price for price, _ in chunks])

    def _price(self, outline: Outline, chunk: int, least: int) -> tuple[float, float]:
        """(forwards of each candidate of a chunk, forwards of the chunk besides), at or above what n of them take.

        Of n candidates whose share is finished, it is a share of n rounded up, and never fewer than can survive.
        """
        recipe, beams = self.run.recipe, self._beams(chunk)
        keep, saved = recipe.early.keep_in(chunk), rest_of(outline, chunk, recipe.early)
        fixed = saved * max(1.0, recipe.search.top_k - keep * beams * least) if saved and keep < 1 else 0.0
        return outline.generate[chunk] - saved * (1 - keep) + self.run.predictions, fixed

    def _beams(self, chunk: int) -> int:
        """How many beams branch in a chunk, the empty video counted as all that it stands for."""
        search = self.run.recipe.search
        return sum(places(beam, search) for beam in self.run.beams) if chunk == self.chunk.index else search.top_k

    def seconds(self, budget: float) -> RemainingBudget | None:
        """What is left of `budget` seconds, at what a candidate has taken so far with everything around it."""
        return self._at_mean_price(budget, sum(self.run.cost.seconds.values()))

    def _at_mean_price(self, budget: float, spent: float) -> RemainingBudget | None:
        candidates = self.run.cost.candidates
        if not candidates or not spent:
            return None
        return self._remaining(budget - spent, [spent / candidates] * (self.chunk.count - self.chunk.index))

    def _remaining(self, left: float, prices: Sequence[float]) -> RemainingBudget:
        """`prices`: of a candidate in this chunk and in each one after it."""
        top_k = self.run.recipe.search.top_k
        return RemainingBudget(left, self._beams(self.chunk.index) * prices[0], top_k * sum(prices[1:]))
