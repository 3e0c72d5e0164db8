"""Drift over a video: how much the judge's score drops from an early chunk to the last, where it scores each chunk."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare.stats import bootstrap, column, figures, grouped, paired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHUNK = re.compile(r"chunk_(\d+)")  # parts of a judge that score one chunk: `chunk_01` is the first
EARLY, LONG = 4, 8
"""The early chunk of a long video, whose first chunks are not typical, and the least chunks of a long video."""


def chunks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The chunks that the judge scores in every row, in order; empty where it scores none."""
    scored = [{name for name in row["judge"] if CHUNK.fullmatch(name)} for row in rows]
    common = set.intersection(*scored) if scored else set()
    return sorted(common, key=number_of)


def number_of(chunk: str) -> int:
    """The chunk that a part of a judge scores, counted from 0 as everywhere: 6 for `chunk_07`."""
    return int(chunk.rpartition("_")[2]) - 1


def summary(rows: Sequence[Mapping[str, Any]], recipes: Sequence[str]) -> dict[str, Any]:
    """`drift` for the summary: early and last score, the loss, and how much smaller it is than the first recipe's.

    A loss is negative where the score rises.
    """
    known = chunks(rows)
    if len(known) < 2:
        return {}
    early, last = known[EARLY - 1 if len(known) >= LONG else 0], known[-1]
    ends = {recipe: (column(rows, recipe, early), column(rows, recipe, last)) for recipe in recipes}
    losses = {recipe: {video: a[video] - b[video] for video in a if video in b} for recipe, (a, b) in ends.items()}
    entries = {
        recipe: {
            "early": bootstrap(grouped(ends[recipe][0])).as_dict()["mean"],
            "last": bootstrap(grouped(ends[recipe][1])).as_dict()["mean"],
            "lost": figures(grouped(own)),
            "saved": figures(paired(own, losses[recipes[0]])) if recipe != recipes[0] else None,
        }
        for recipe, own in losses.items()
        if own
    }
    return {"drift": {"early": early, "last": last, "recipes": entries}} if entries else {}
