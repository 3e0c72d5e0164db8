"""The pairs of videos in which a recipe gains and loses most against the first one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COUNT = 3


@dataclass(frozen=True)
class Side:
    """One video of a pair: its score, and the name of its strip where it has one."""

    recipe: str
    score: float
    strip: str | None


@dataclass(frozen=True)
class Pair:
    """The same prompt and seed under two recipes."""

    prompt: str
    seed: int
    base: Side
    other: Side

    @property
    def gain(self) -> float:
        return self.other.score - self.base.score


@dataclass(frozen=True)
class Extremes:
    """The pairs of one recipe with the largest gains and the largest losses; either may be empty."""

    recipe: str
    best: tuple[Pair, ...]
    worst: tuple[Pair, ...]


def extremes(rows: Sequence[Mapping[str, Any]], base: str, recipe: str, metric: str) -> Extremes:
    """The best and worst pairs of a recipe with the base by their gain in a metric; a gain of zero is neither."""
    sides = {name: _sides(rows, name, metric) for name in (base, recipe)}
    pairs = [Pair(*key, side, sides[recipe][key]) for key, side in sides[base].items() if key in sides[recipe]]
    ordered = sorted(pairs, key=lambda pair: -pair.gain)
    best = [pair for pair in ordered if pair.gain > 0][:COUNT]
    worst = [pair for pair in reversed(ordered) if pair.gain < 0][:COUNT]
    return Extremes(recipe, tuple(best), tuple(worst))


def _sides(rows: Sequence[Mapping[str, Any]], recipe: str, metric: str) -> dict[tuple[str, int], Side]:
    own = [row for row in rows if row["recipe"] == recipe and row["judge"].get(metric) is not None]
    return {(row["prompt"], row["seed"]): Side(recipe, row["judge"][metric], row.get("strip")) for row in own}
