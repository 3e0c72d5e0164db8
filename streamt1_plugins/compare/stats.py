"""Paired statistics of a comparison: a cluster bootstrap over prompts, and counts of wins."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DRAWS = 10_000


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
    """A mean, its bootstrap interval (95 % by default) and the number of prompts."""

    mean: float
    low: float
    high: float
    prompts: int

    def as_dict(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


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
