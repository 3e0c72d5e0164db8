"""Drift over a video: how much the judge's score drops from an early chunk to the last, where it scores each chunk."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare.stats import bootstrap, column, grouped, paired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHUNK = re.compile(r"chunk_(\d+)")
"""Parts of a judge that score one chunk, counted from 1."""

EARLY, LONG = 4, 8
"""The early chunk of a long video, whose first chunks are not typical, and the least chunks of a long video."""

Values = dict[tuple[str, int], float]


def chunks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The chunks that the judge scores in every row, in order; empty where it scores none."""
    scored = [{name for name in row["judge"] if CHUNK.fullmatch(name)} for row in rows]
    common = set.intersection(*scored) if scored else set()
    return sorted(common, key=number_of)


def number_of(chunk: str) -> int:
    """7 for `chunk_07`."""
    return int(chunk.rpartition("_")[2])


def summary(rows: Sequence[Mapping[str, Any]], recipes: Sequence[str]) -> dict[str, Any]:
    """`drift` for the summary: early and last score, the loss, and how much smaller it is than the first recipe's."""
    known = chunks(rows)
    if len(known) < 2:
        return {}
    early, last = known[EARLY - 1 if len(known) >= LONG else 0], known[-1]
    losses = {recipe: lost(rows, recipe, early, last) for recipe in recipes}
    entries = {
        recipe: {
            "early": _mean(rows, recipe, early),
            "last": _mean(rows, recipe, last),
            "lost": bootstrap(grouped(own)).as_dict(),
            "saved": _saved(losses[recipes[0]], own) if recipe != recipes[0] else None,
        }
        for recipe, own in losses.items()
        if own
    }
    return {"drift": {"early": early, "last": last, "recipes": entries}} if entries else {}


def lost(rows: Sequence[Mapping[str, Any]], recipe: str, early: str, last: str) -> Values:
    """The loss of score from one chunk to another, by video of a recipe; negative where the score rises."""
    before, after = column(rows, recipe, early), column(rows, recipe, last)
    return {video: before[video] - after[video] for video in before if video in after}


def _saved(base: Values, own: Values) -> dict[str, float] | None:
    differences = paired(own, base)
    return bootstrap(differences).as_dict() if differences else None


def _mean(rows: Sequence[Mapping[str, Any]], recipe: str, chunk: str) -> float:
    return round(bootstrap(grouped(column(rows, recipe, chunk))).mean, 4)
