"""Revision: what may become of a chunk instead of its selection, and how much of it a policy declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from streamt1_plugins.api.types import RevisionLimits

NEVER = RevisionLimits(reach=0, returns=0, rounds=1)


def limits_of(policy: object) -> RevisionLimits:
    """The most that a revision policy answers; one that declares nothing may have any number of rounds in a chunk."""
    limits = getattr(policy, "limits", None)
    return limits if isinstance(limits, RevisionLimits) else RevisionLimits()


def widening(limits: RevisionLimits) -> int:
    """How many times the width a chunk's candidates may be; where any number of rounds may follow, at least once."""
    return 1 if limits.shared else limits.rounds or 1


@dataclass(frozen=True)
class NoRevision:
    """Every chunk goes on to its selection: the search looks only forward."""

    limits: ClassVar[RevisionLimits] = NEVER


def share(width: int, rounds: int) -> list[int]:
    """A width in so many rounds, the larger ones first."""
    return [width // rounds + (place < width % rounds) for place in range(rounds)]
