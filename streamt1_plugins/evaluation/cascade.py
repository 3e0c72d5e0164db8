"""Rewards in stages: cheap ones prune candidates before expensive ones are called."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from streamt1_plugins.api.candidate import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.config.schema import SearchSettings
    from streamt1_plugins.evaluation.pool import BoundReward


def stages(rewards: Iterable[BoundReward]) -> list[list[BoundReward]]:
    """The rewards stage by stage, in the recipe's order within each."""
    found: dict[int, list[BoundReward]] = {}
    for bound in rewards:
        found.setdefault(bound.settings.stage, []).append(bound)
    return [found[number] for number in sorted(found)]


def thin(run: Run, candidates: Sequence[Candidate], stage: int, score: Callable[[Candidate], float]) -> list[Candidate]:
    """The candidates, those that `stage` prunes marked with it.

    The best share `rewards.keep` by the run's scoring policy passes, never fewer than can survive the chunk. Invalid
    candidates never pass; among equals the first ones do.
    """
    scores = {row: score(each) for row, each in enumerate(candidates) if each.is_eligible}
    pruned = scores.keys() - best(scores, run.recipe.rewards.keep, run.recipe.search)
    return [replace(each, stage=stage) if row in pruned else each for row, each in enumerate(candidates)]


def best(scores: Mapping[int, float], share: float, search: SearchSettings) -> set[int]:
    """The keys of the best `share` of the scores; the first ones among equals, those that are not finite last."""
    ranked = sorted(scores, key=lambda key: -scores[key] if math.isfinite(scores[key]) else math.inf)
    return set(ranked[: passing(share, len(ranked), search)])


def passing(share: float, count: int, search: SearchSettings) -> int:
    """How many of `count` candidates pass: a share of them, never fewer than can survive the chunk."""
    return min(count, max(search.top_k, math.ceil(share * count)))


def veto(run: Run, candidates: Sequence[Candidate], stage: Sequence[BoundReward]) -> list[Candidate]:
    """The candidates, those below a reward's `veto` made invalid; a veto that would leave none is only noted."""
    judged = list(candidates)
    for bound in stage:
        eligible = [c for c in judged if c.is_eligible]
        below = {c.ordinal for c in eligible if _is_vetoed(c, bound)}
        if below and len(below) == len(eligible):
            run.tree.note(
                f"Chunk {eligible[0].chunk}: reward {bound.name!r} vetoed every candidate, so its veto was ignored."
            )
        elif below:
            judged = [_vetoed(c, bound) if c.ordinal in below else c for c in judged]
    return judged


def _is_vetoed(candidate: Candidate, bound: BoundReward) -> bool:
    """A reward that could not judge (NaN) vetoes a candidate; one that was skipped does not."""
    reading = candidate.readings.get(bound.horizon, {}).get(bound.name)
    limit = bound.settings.veto
    return limit is not None and reading is not None and not reading.raw >= limit


def _vetoed(candidate: Candidate, bound: BoundReward) -> Candidate:
    raw = candidate.readings[bound.horizon][bound.name].raw
    return replace(
        candidate, problem=f"Vetoed by reward {bound.name!r}: {raw:.4g} is not at least {bound.settings.veto:.4g}."
    )
