"""Drift over a video: what a metric loses from an early chunk to the last one, where the judge tells single chunks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare.stats import bootstrap, column, grouped, paired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHUNK = re.compile(r"chunk_(\d+)")
"""Parts of a judge that belong to one chunk, counted from 1."""

SETTLED, LONG = 4, 8
"""The early chunk of a long video, and from how many chunks on a video is long: the first ones are not typical."""

Values = dict[tuple[str, int], float]


def chunks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The single chunks the judge told of in every row, in order; empty where it told of none."""
    told = [{name for name in row["judge"] if CHUNK.fullmatch(name)} for row in rows]
    common = set.intersection(*told) if told else set()
    return sorted(common, key=lambda name: int(name.partition("_")[2]))


def summary(rows: Sequence[Mapping[str, Any]], recipes: Sequence[str]) -> dict[str, Any]:
    """`drift` for the summary: early and last score, what was lost, and how much less than the first recipe lost."""
    known = chunks(rows)
    if len(known) < 2:
        return {}
    early, last = known[SETTLED - 1 if len(known) >= LONG else 0], known[-1]
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
    """What each video of a recipe loses from one chunk to another; less than nothing where it gains."""
    before, after = column(rows, recipe, early), column(rows, recipe, last)
    return {video: before[video] - after[video] for video in before if video in after}


def _saved(base: Values, own: Values) -> dict[str, float] | None:
    differences = paired(own, base)
    return bootstrap(differences).as_dict() if differences else None


def _mean(rows: Sequence[Mapping[str, Any]], recipe: str, chunk: str) -> float:
    return round(bootstrap(grouped(column(rows, recipe, chunk))).mean, 4)
