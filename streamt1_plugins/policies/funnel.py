"""A funnel: many candidates early, few late, for the transformer forwards of the fixed width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from streamt1_plugins.api.adapter import Outline, OutlinedSession
from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.config.rewards import Count
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.policies.width import places, rest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.config.schema import Recipe, SearchSettings


def tapered(prices: Sequence[Fraction], mean: int, bounds: tuple[int, int], power: float) -> list[int]:
    """``least + a (1 - progress)^power`` candidates in every chunk, in whole numbers.

    They cost exactly what `mean` candidates in every chunk cost. Chunk by chunk, `a` is what the rest of the total
    allows, so rounding is spread over the chunks to come; a chunk whose price divides badly may be narrower than the
    next one. Where prices are no whole numbers, the sum may be less by a part of a candidate; where no such numbers are
    found it is `mean` everywhere.
    """
    (least, most), left, found = bounds, Fraction(mean * sum(prices)), list[int]()
    shape = [(1 - index / max(1, len(prices) - 1)) ** power for index in range(len(prices))]
    for index, price in enumerate(prices):
        ideal = least + _extra(left - least * sum(prices[index:]), prices[index:], shape[index:])
        fitting = _fitting(left, prices[index:], least, most)
        if not fitting:
            return [mean] * len(prices)
        found.append(_nearest(ideal, fitting))
        most = min(most, max(found[-1], round(ideal)))
        left -= found[-1] * price
    return found


def _extra(left: Fraction, prices: Sequence[Fraction], shape: Sequence[float]) -> float:
    """What the first of some chunks gets where `left` is shared among them by shape; the last one gets all."""
    weight = sum(float(price) * part for price, part in zip(prices, shape, strict=True))
    return float(left) / weight * shape[0] if weight else float(left / prices[0])


def _fitting(left: Fraction, prices: Sequence[Fraction], least: int, most: int) -> list[int]:
    """The numbers for the first of some chunks that leave what the others, within the bounds, can make up."""
    price, *later = prices
    is_exact = all(each.denominator == 1 for each in prices)
    share = left / sum(prices)  # no later chunk is to be wider
    low, high = math.ceil(share) if is_exact else math.floor(share), math.floor((left - least * sum(later)) / price)
    step = math.gcd(*map(int, later))
    numbers = range(max(least, low), min(most, high) + 1)
    return [n for n in numbers if not is_exact or _divides(step, int(left - n * price))]


def _divides(step: int, amount: int) -> bool:
    return amount % step == 0 if step else amount == 0


def _nearest(ideal: float, numbers: Sequence[int]) -> int:
    """The number nearest to the ideal, the larger one of two."""
    return min(numbers, key=lambda number: (abs(number - ideal), -number))


@dataclass(frozen=True)
class Funnel:
    """Many candidates per beam in the first chunk, `least` in the last one, in between by a power of the progress.

    Width is worth most where the video is decided: a bad first chunk stays in the context of all others. The total of
    transformer forwards is that of the same recipe with `width: fixed`, whatever the chunks cost: a first chunk of more
    denoising steps takes more of the total. With early pruning it is at most that, up to whole candidates. Where the
    pipeline has no outline, chunks count alike. With `search.candidates` = `least` there is nothing to move.

    least: candidates per beam in the last chunk. power: 1 is a straight line, larger is steeper.
    """

    forwards: ClassVar[int | None] = None

    least: Count = 1
    power: Annotated[float, Field(gt=0, le=10)] = 1.0

    def bounds(self, search: SearchSettings) -> tuple[int, int]:
        """(narrowest, widest): a line that ends at `least` begins at most as far above the mean as that lies below."""
        mean = search.candidates
        if self.least > mean:
            raise RecipeError(f"width.least = {self.least} is more than search.candidates = {mean}, the mean width.")
        return self.least, self.least + math.ceil((mean - self.least) * (1 + self.power))

    def schedule(self, recipe: Recipe, outline: Outline) -> list[int]:
        """Candidates per beam in every chunk of a call."""
        return self._widths(recipe, outline, 0)

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        self.bounds(run.recipe.search)

    @hookimpl
    def streamt1_width(self, run: Run, chunk: Chunk, beam: Beam) -> int:
        session = run.session
        alike = Outline((1,) * chunk.count, (0,) * chunk.count, latent_frames=0)
        outline = session.outline() if isinstance(session, OutlinedSession) else alike
        first = min(run.tree.chunks(), default=chunk.index)  # a call that continues a video searches the rest of it
        widths = self._widths(run.recipe, outline, first)
        return widths[chunk.index - first] * places(beam, run.recipe.search)

    def _widths(self, recipe: Recipe, outline: Outline, first: int) -> list[int]:
        bounds, mean = self.bounds(recipe.search), recipe.search.candidates
        prices = [_price(recipe, outline, index) for index in range(first, len(outline.generate))]
        if not all(prices):
            prices = [Fraction(1)] * len(prices)
        return tapered(prices, mean, bounds, self.power)


def _price(recipe: Recipe, outline: Outline, chunk: int) -> Fraction:
    """Forwards of one candidate of a chunk, where a share of them is finished."""
    early = recipe.early
    keep = Fraction(early.keep_in(chunk)) if recipe.rewards.are_named else 1
    return outline.generate[chunk] - rest_of(outline, chunk, early) * (1 - keep) + Fraction(0)
