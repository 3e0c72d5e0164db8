"""Stream-Scaled Reward Pruning (paper, unit 2): short- and long-horizon rewards in one score."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.config.rewards import Count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, Node


def hybrid(short: float, long: float, progress: float, cap: float) -> float:
    """``alpha * short + (1 - alpha) * long`` with ``alpha = min(progress, cap)``.

    `progress` runs from 0 (first chunk: only the long reward counts) to 1 (last chunk). A horizon that was not
    measured (NaN) leaves the score to the other one.
    """
    return mixed(short, long, min(progress, cap))


def mixed(short: float, long: float, alpha: float) -> float:
    """``alpha * short + (1 - alpha) * long``; what was not measured (NaN) leaves the score to the other one."""
    if math.isnan(long):
        return 0.0 if math.isnan(short) else short
    if math.isnan(short):
        return long
    return alpha * short + (1 - alpha) * long


def accumulated(scores: Sequence[float], decay: float) -> float:
    """The mean of a path's scores, oldest first, each chunk back weighing `decay` times as much as the one after it."""
    weights = [decay**age for age in reversed(range(len(scores)))]
    return sum(weight * score for weight, score in zip(weights, scores, strict=True)) / sum(weights)


@dataclass(frozen=True)
class Hybrid:
    """The paper's hybrid score, by default of this chunk alone.

    cap: largest weight of the short reward, 0 for long only, 1 for no cap. horizon: `both`, or only the `short` or
    `long` reward decides. window: chunks of the candidate's path whose scores are averaged, its own included; 1 is
    this chunk alone, null the whole path. decay: what a chunk weighs in that mean against the one after it, 1 for all
    alike. Chunks that were not measured are left out of the mean.
    """

    needs_frames: ClassVar[bool] = False

    cap: Annotated[float, Field(ge=0, le=1)] = 0.4
    horizon: Literal["both", "short", "long"] = "both"
    window: Count | None = 1
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0

    @property
    def compares_chunks(self) -> bool:
        """Whether scores of different chunks are added up, which some calibrations do not allow."""
        return self.window != 1

    @hookimpl
    def streamt1_score(self, run: Run, chunk: Chunk, candidate: Candidate) -> float:
        own = self._score(candidate, chunk)
        if self.window == 1:
            return own
        path = candidate.beam.path if self.window is None else candidate.beam.path[1 - self.window :]
        past = [self._score(node, replace(chunk, index=node.chunk)) for node in path if _is_measured(node)]
        return accumulated([*past, own], self.decay)

    def _score(self, node: Node, chunk: Chunk) -> float:
        if self.horizon == "both":
            return hybrid(node.short, node.long, chunk.progress, self.cap)
        return mixed(node.short, node.long, alpha=1.0 if self.horizon == "short" else 0.0)


def _is_measured(node: Node) -> bool:
    return not (math.isnan(node.short) and math.isnan(node.long))
