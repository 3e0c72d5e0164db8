"""Stream-Scaled Reward Pruning (paper, unit 2): short- and long-horizon rewards in one score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from streamt1_plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.contracts import Candidate, Chunk, Run


def hybrid(short: float, long: float, progress: float, cap: float) -> float:
    """``alpha * short + (1 - alpha) * long`` with ``alpha = min(progress, cap)``.

    `progress` runs from 0 (first chunk: only the long reward counts) to 1 (last chunk). A horizon that was not
    measured (NaN) leaves the score to the other one.
    """
    if math.isnan(long):
        return 0.0 if math.isnan(short) else short
    if math.isnan(short):
        return long
    alpha = min(progress, cap)
    return alpha * short + (1 - alpha) * long


@dataclass(frozen=True)
class Hybrid:
    """The paper's hybrid score. cap: largest weight of the short reward, 0 for long only, 1 for no cap."""

    cap: Annotated[float, Field(ge=0, le=1)] = 0.4

    @hookimpl
    def streamt1_score(self, run: Run, chunk: Chunk, candidate: Candidate) -> float:
        return hybrid(candidate.short, candidate.long, chunk.progress, self.cap)
