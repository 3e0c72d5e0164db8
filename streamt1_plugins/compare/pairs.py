"""The pairs of videos in which a recipe gains and loses most against the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COUNT = 3


class Pair(NamedTuple):
    """The rows of the same prompt and seed under two recipes, and by how much the other recipe's score is larger."""

    base: Mapping[str, Any]
    other: Mapping[str, Any]
    gain: float


class Extremes(NamedTuple):
    """The pairs of one recipe with the largest gains and the largest losses; either may be empty."""

    recipe: str
    best: list[Pair]
    worst: list[Pair]


def every(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[list[Mapping[str, Any] | None]]:
    """All videos: a line per prompt and seed, with the row of each recipe, None where it has none."""
    found = {(row["prompt"], row["seed"], row["recipe"]): row for row in rows}
    lines = dict.fromkeys((row["prompt"], row["seed"]) for row in rows)
    return [[found.get((*line, label)) for label in labels] for line in sorted(lines)]


def extremes(rows: Sequence[Mapping[str, Any]], base: str, recipe: str, metric: str) -> Extremes:
    """The best and worst pairs of a recipe with the base by their gain in a metric; a gain of zero is neither."""
    judged = [row for row in rows if row["judge"].get(metric) is not None]
    others = {(row["prompt"], row["seed"]): row for row in judged if row["recipe"] == recipe}
    both = [(row, others.get((row["prompt"], row["seed"]))) for row in judged if row["recipe"] == base]
    found = [Pair(row, other, other["judge"][metric] - row["judge"][metric]) for row, other in both if other]
    pairs = sorted(found, key=lambda pair: -pair.gain)
    best = [pair for pair in pairs if pair.gain > 0][:COUNT]
    return Extremes(recipe, best, [pair for pair in pairs[::-1] if pair.gain < 0][:COUNT])
