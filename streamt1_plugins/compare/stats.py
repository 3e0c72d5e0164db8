"""Statistics over prompts: means with their intervals, paired differences, counts of wins."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DRAWS = 10_000

ENOUGH_PROMPTS = 6
"""With fewer prompts an interval by Student's t concludes nothing."""

FEW = 20
COVERAGE = {2: 51, 3: 73, 4: 81, 6: 84, 8: 88, 10: 90, 12: 89, 16: 91}
"""By number of prompts, in how many of 100 comparisons a 95 % interval holds the true gain: 1,500 samples of normally
distributed gains each."""


def caution(prompts: int) -> str | None:
    """A word of caution where there are few prompts, None where there are enough for the intervals to hold."""
    if prompts >= FEW:
        return None
    if prompts < min(COVERAGE):
        return "One prompt shows nothing about others: it has no interval, and another prompt may turn the result."
    held = COVERAGE[max(count for count in COVERAGE if count <= prompts)]
    return (
        f"{prompts} prompts are few: an interval from so few holds the true gain in about {held} of 100 comparisons, "
        f"not in 95, and other prompts may turn the result. Take {FEW} prompts or more before you decide."
    )


@dataclass(frozen=True)
class Interval:
    """A mean over prompts, its interval (95 % unless it is made with another level) and the number of prompts."""

    mean: float
    low: float
    high: float
    prompts: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """The interval of the values that are known, one per prompt, by Student's t.

        All NaN without a value, no width with a single one.
        """
        known = [value for value in values if math.isfinite(value)]
        if not known:
            return cls(math.nan, math.nan, math.nan, 0)
        middle = fmean(known)
        reach = student(len(known) - 1) * stdev(known) / math.sqrt(len(known)) if len(known) > 1 else 0.0
        return cls(middle, middle - reach, middle + reach, len(known))

    def plus(self, other: Interval) -> Interval:
        """The interval of a sum: the two vary together in the worst case."""
        ends = (self.mean + other.mean, self.low + other.low, self.high + other.high)
        return Interval(*ends, min(self.prompts, other.prompts))

    def within(self, least: float, most: float) -> Interval:
        """The interval of values that cannot lie outside these bounds."""
        return Interval(self.mean, max(least, self.low), min(most, self.high), self.prompts)

    def times(self, factor: float) -> Interval:
        """The interval of the values times a factor that is not negative."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor, self.prompts)

    @property
    def is_above_zero(self) -> bool:
        """Whether there are prompts enough, and all of the interval lies above zero."""
        return self.prompts >= ENOUGH_PROMPTS and self.low > 0

    @property
    def is_below_zero(self) -> bool:
        """Whether there are prompts enough, and all of the interval lies below zero."""
        return self.prompts >= ENOUGH_PROMPTS and self.high < 0

    def as_dict(self) -> dict[str, float]:
        """Plain data, rounded for tables."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, by its expansion around the normal one (within 1 % from 3 degrees on)."""
    z = NormalDist().inv_cdf(0.975)
    first, second = z**3 + z, 5 * z**5 + 16 * z**3 + 3 * z
    third = 3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z
    return z + first / (4 * freedom) + second / (96 * freedom**2) + third / (384 * freedom**3)


def bootstrap(by_prompt: Mapping[str, Sequence[float]], level: float = 0.95, seed: int = 0) -> Interval:
    """The mean over prompts with a percentile interval.

    Prompts are resampled, not single videos: seeds of one prompt are not independent evidence.
    """
    means = np.array([np.mean(values) for values in by_prompt.values()])
    picks = np.random.default_rng(seed).integers(0, len(means), (DRAWS, len(means)))
    low, high = np.quantile(means[picks].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(means.mean()), float(low), float(high), len(means))


def figures(by_prompt: Mapping[str, Sequence[float]]) -> dict[str, float] | None:
    """The interval of `bootstrap` as data; None without a value."""
    return bootstrap(by_prompt).as_dict() if by_prompt else None


def paired(base: Mapping[tuple[str, int], float], other: Mapping[tuple[str, int], float]) -> dict[str, list[float]]:
    """Differences ``other - base`` by prompt, over the (prompt, seed) that both have."""
    found: dict[str, list[float]] = {}
    for prompt, seed in base:
        if (prompt, seed) in other:
            found.setdefault(prompt, []).append(other[prompt, seed] - base[prompt, seed])
    return found


def grouped(values: Mapping[tuple[str, int], float]) -> dict[str, list[float]]:
    """The values by prompt."""
    found: dict[str, list[float]] = {}
    for (prompt, _), value in values.items():
        found.setdefault(prompt, []).append(value)
    return found


def wins(differences: Mapping[str, Sequence[float]], margin: float = 1e-9) -> dict[str, int]:
    """How many videos are better, equal and worse."""
    flat = [value for values in differences.values() for value in values]
    better, worse = sum(v > margin for v in flat), sum(v < -margin for v in flat)
    return {"better": better, "equal": len(flat) - better - worse, "worse": worse}


def column(rows: Sequence[Mapping[str, Any]], recipe: str, metric: str) -> dict[tuple[str, int], float]:
    """One metric of one recipe by (prompt, seed); rows without it are left out."""
    return {
        (row["prompt"], row["seed"]): row["judge"][metric]
        for row in rows
        if row["recipe"] == recipe and row["judge"].get(metric) is not None
    }
