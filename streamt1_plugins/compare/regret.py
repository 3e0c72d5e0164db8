"""Regret: how far a recipe's videos stay below those of an oracle, a search that picks by the judge itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare.stats import column, figures, paired

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MATCHED = 1.25
"""Up to this ratio of the forwards of a recipe and its oracle the two are matched."""


def summary(rows: Sequence[Mapping[str, Any]], forwards: Mapping[str, float], metric: str) -> dict[str, Any]:
    """`oracle` and `regret` for the summary; empty where no row is an oracle's.

    A recipe's regret is the oracle's score minus its own on the same prompt and seed, with its interval. Of several
    oracles (widths) it is the one with the closest mean `forwards`; `ratio` has the oracle's forwards by the recipe's.
    """
    oracles = list(dict.fromkeys(row["recipe"] for row in rows if row.get("oracle")))
    entries = {}
    for recipe in forwards if oracles else ():
        if recipe not in oracles:
            oracle = min(oracles, key=lambda label: _apart(forwards[label], forwards[recipe]))
            found = figures(paired(column(rows, recipe, metric), column(rows, oracle, metric)))
            ratio = round(forwards[oracle] / forwards[recipe], 2) if forwards[recipe] else None
            entries[recipe] = {"against": oracle, "ratio": ratio, "regret": found}
    return {"oracle": oracles, "regret": {"metric": metric, "recipes": entries}} if oracles else {}


def is_matched(entry: Mapping[str, Any]) -> bool:
    """Whether a recipe and its oracle took about the same forwards."""
    return entry["ratio"] is not None and 1 / MATCHED <= entry["ratio"] <= MATCHED


def against(entry: Mapping[str, Any]) -> str:
    """The oracle of a recipe in words, with its forwards where they are not matched."""
    others = "unknown" if entry["ratio"] is None else f"{entry['ratio']:g} x the"
    return str(entry["against"]) if is_matched(entry) else f"{entry['against']} ({others} forwards)"


def _apart(first: float, second: float) -> float:
    """How far two counts are from each other, as a ratio."""
    return abs(math.log(first / second)) if first > 0 and second > 0 else math.inf
