"""Rewards in stages: cheap ones thin out the candidates before expensive ones are asked."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from streamt1_plugins.api.candidate import Candidate
from streamt1_plugins.api.types import HORIZONS, Horizon

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.config.rewards import RewardPart, RewardSettings
    from streamt1_plugins.config.schema import Recipe

Named = tuple[Horizon, str]


def stages(settings: RewardSettings) -> list[dict[Named, RewardPart]]:
    """The rewards stage by stage, in the recipe's order within each."""
    parts = {(h, name): part for h in HORIZONS for name, part in getattr(settings, h).items()}
    numbers = sorted({part.stage for part in parts.values()})
    return [{named: part for named, part in parts.items() if part.stage == number} for number in numbers]


def thin(run: Run, candidates: Sequence[Candidate], stage: int, score: Callable[[Candidate], float]) -> list[Candidate]:
    """The candidates, those that fall behind marked with `stage`.

    The best share `rewards.keep` by the run's scoring policy goes on, never fewer than can survive the chunk. Invalid
    ones go nowhere; among equals the first ones go on.
    """
    scores = {row: score(each) for row, each in enumerate(candidates) if each.is_eligible}
    behind = scores.keys() - best(run, scores, run.recipe.rewards.keep)
    return [replace(each, stage=stage) if row in behind else each for row, each in enumerate(candidates)]


def best(run: Run, scores: Mapping[int, float], share: float) -> set[int]:
    """The keys of the best `share` of the scores; the first ones among equals, those that are not finite last."""
    ranked = sorted(scores, key=lambda key: -scores[key] if math.isfinite(scores[key]) else math.inf)
    return set(ranked[: places(run.recipe, share, len(ranked))])


def places(recipe: Recipe, share: float, count: int) -> int:
    """How many of `count` candidates go on: a share of them, never fewer than can survive the chunk."""
    return min(count, max(recipe.search.top_k, math.ceil(share * count)))


def veto(run: Run, candidates: Sequence[Candidate], parts: dict[Named, RewardPart]) -> list[Candidate]:
    """The candidates, those below a reward's `veto` made invalid; a veto that would leave nobody is only noted."""
    judged = list(candidates)
    for (horizon, name), part in parts.items():
        if part.veto is None:
            continue
        below = [c for c in judged if c.is_eligible and _is_below(c, horizon, name, part.veto)]
        if below and len(below) == sum(c.is_eligible for c in judged):
            run.tree.note(f"Chunk {below[0].chunk}: reward {name!r} vetoed every candidate, so its veto was ignored.")
            continue
        ordinals = {c.ordinal for c in below}
        judged = [_vetoed(c, horizon, name, part.veto) if c.ordinal in ordinals else c for c in judged]
    return judged


def _is_below(candidate: Candidate, horizon: Horizon, name: str, limit: float) -> bool:
    """A reward that could not judge (NaN) does not let a candidate pass; one that was skipped does."""
    reading = candidate.readings.get(horizon, {}).get(name)
    return reading is not None and not reading.raw >= limit


def _vetoed(candidate: Candidate, horizon: Horizon, name: str, limit: float) -> Candidate:
    raw = candidate.readings[horizon][name].raw
    return replace(candidate, problem=f"Vetoed by reward {name!r}: {raw:.4g} is not at least {limit:.4g}.")
