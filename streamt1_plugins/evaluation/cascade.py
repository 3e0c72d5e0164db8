"""Rewards in stages: cheap ones prune candidates before expensive ones are called."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.config.schema import SearchSettings
    from streamt1_plugins.evaluation.pool import BoundReward


def stages(rewards: Iterable[BoundReward]) -> list[list[BoundReward]]:
    """The rewards stage by stage, in the recipe's order within each."""
    found: dict[int, list[BoundReward]] = {}
    for bound in rewards:
        found.setdefault(bound.settings.stage, []).append(bound)
    return [found[number] for number in sorted(found)]


def thinned(candidates: Sequence[Candidate], pruned: Container[int], stage: int) -> list[Candidate]:
    """The candidates, those whose ordinal is in `pruned` marked as pruned by `stage`."""
    return [replace(each, stage=stage) if each.ordinal in pruned else each for each in candidates]


def best(scores: Mapping[int, float], share: float, search: SearchSettings) -> set[int]:
    """The keys of the best `share` of the scores; the first ones among equals, those that are not finite last."""
    ranked = sorted(scores, key=lambda key: -scores[key] if math.isfinite(scores[key]) else math.inf)
    return set(ranked[: passing(share, len(ranked), search)])


def passing(share: float, count: int, search: SearchSettings) -> int:
    """How many of `count` candidates pass: a share of them, never fewer than can survive the chunk."""
    return min(count, max(search.top_k, math.ceil(share * count)))


def vetoed(candidates: Sequence[Candidate], bound: BoundReward) -> list[Candidate]:
    """The candidates, those below the reward's `veto` made invalid.

    A reward that could not judge (NaN) vetoes a candidate; one that was skipped does not.
    """
    limit = bound.settings.veto
    if limit is None:
        return list(candidates)
    raws = {c.ordinal: c.readings[bound.horizon][bound.name].raw for c in candidates if _is_judged(c, bound)}
    below = {ordinal: raw for ordinal, raw in raws.items() if not raw >= limit}
    problem = "Vetoed by reward {!r}: {:.4g} is not at least {:.4g}."
    return [
        replace(each, problem=problem.format(bound.name, below[each.ordinal], limit)) if each.ordinal in below else each
        for each in candidates
    ]


def _is_judged(candidate: Candidate, bound: BoundReward) -> bool:
    return candidate.is_eligible and bound.name in candidate.readings.get(bound.horizon, {})
