"""Revision policies that follow a script, for tests of the mechanism."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from streamt1_plugins import Revision, RevisionLimits, hookimpl


@dataclass
class Returning:
    """Goes back from one chunk to another, `times` times."""

    judged: int = 3
    to: int = 1
    times: int = 1
    reach: int | None = 2

    @property
    def limits(self) -> RevisionLimits:
        return RevisionLimits(reach=self.reach, returns=self.times, rounds=1)

    @hookimpl
    def streamt1_revise(self, run: Any, chunk: Any) -> Revision | None:
        is_due = chunk.index == self.judged and len(run.tree.returns) < self.times
        return Revision(back_to=self.to, reason="It is in the script.") if is_due else None


@dataclass
class Rounds:
    """Another round in every chunk: the best candidate of each beam, varied."""

    limits: ClassVar[RevisionLimits] = RevisionLimits(rounds=2, returns=0)

    count: int | None = None
    strength: float = 0.5
    varies: bool = True

    @hookimpl
    def streamt1_revise(self, candidates: Any) -> Revision | None:
        if len({each.round for each in candidates}) > 1:
            return None
        best: dict[Any, Any] = {}
        for each in candidates:
            if each.is_eligible and each.score > best.get(each.parent, each).score - 1e-9:
                best[each.parent] = each
        ids = tuple(each.id for each in best.values()) if self.varies else ()
        return Revision(count=self.count, varied=ids, strength=self.strength)


@dataclass
class Both:
    """Goes back as `Returning` does, and gives every chunk another round."""

    limits: ClassVar[RevisionLimits] = RevisionLimits(rounds=2, returns=1, reach=2)

    @hookimpl
    def streamt1_revise(self, run: Any, chunk: Any, candidates: Any) -> Revision | None:
        return Returning().streamt1_revise(run, chunk) or Rounds().streamt1_revise(candidates)
