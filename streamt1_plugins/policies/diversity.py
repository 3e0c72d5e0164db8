"""Diverse survivors: each is chosen for its score and for its distance from those chosen before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.policies.selection import top_k

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk

Vector = list[float]


def spread_out(scores: Sequence[float], distances: Sequence[Sequence[float]], k: int, diversity: float) -> list[int]:
    """Indices of `k` candidates, in the order in which they are chosen: the best score first, then each time the one
    with the largest ``(1 - d) * score + d * distance to the nearest chosen one``.

    Maximal marginal relevance (Carbonell and Goldstein 1998). Scores are scaled to 0..1 among these candidates, and so
    are distances, by the largest of them; equal values keep the order of the candidates.
    """
    low, width = min(scores), (max(scores) - min(scores)) or 1.0
    farthest = max(map(max, distances)) or 1.0
    chosen: list[int] = []
    left = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    while left and len(chosen) < k:
        nearest = {index: min((distances[index][each] for each in chosen), default=0.0) for index in left}
        values = [(1 - diversity) * (scores[i] - low) / width + diversity * nearest[i] / farthest for i in left]
        best = 0 if not chosen else values.index(max(values))
        chosen.append(left.pop(best))
    return chosen


def distances(vectors: Sequence[Vector]) -> list[list[float]]:
    """Euclidean distances between all pairs."""
    return [[math.dist(one, other) for other in vectors] for one in vectors]


@dataclass(frozen=True)
class Diverse:
    """Survivors that differ: maximal marginal relevance over score and distance.

    Few-step students give similar videos for different seeds, and children of one good parent score alike; top-k then
    keeps near copies. It costs nothing but arithmetic: candidates and forwards are those of `top_k`.

    diversity: what distance weighs against the score, 0 is `top_k`, 1 is distance alone after the best. by: `latents`,
    averaged to 4 x 4 places a frame, which every process has; or `rewards`, the calibrated readings, which differ where
    the rewards see different faults. The best candidate always survives, and ranks follow the scores. After the last
    chunk the best scores survive, for the final choice.
    """

    needs_frames: ClassVar[bool] = False

    diversity: Annotated[float, Field(ge=0, le=1)] = 0.3
    by: Literal["latents", "rewards"] = "latents"

    @hookimpl
    def streamt1_select(self, run: Run, chunk: Chunk, candidates: Sequence[Candidate]) -> list[Candidate]:
        k = run.recipe.search.top_k
        if chunk.is_last or len(candidates) <= k:
            return top_k(candidates, k)
        pairs = distances((_latents if self.by == "latents" else _readings)(candidates))
        chosen = spread_out([candidate.score for candidate in candidates], pairs, k, self.diversity)
        return top_k([candidates[index] for index in chosen], k)


def _latents(candidates: Sequence[Candidate]) -> list[Vector]:
    return [candidate.features.flatten().tolist() for candidate in candidates]


def _readings(candidates: Sequence[Candidate]) -> list[Vector]:
    """The calibrated readings of rewards that have a weight; 0 where one gave nothing."""
    found = [
        {
            (horizon, name): reading.value
            for horizon, named in candidate.readings.items()
            for name, reading in named.items()
            if reading.weight > 0
        }
        for candidate in candidates
    ]
    names = sorted({name for values in found for name in values})
    return [[value if math.isfinite(value := values.get(name, 0.0)) else 0.0 for name in names] for values in found]
