"""Pruning: the best `search.top_k` candidates of a chunk survive, whoever their parents are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamt1_plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.contracts import Candidate, Run


def top_k(candidates: Sequence[Candidate], k: int) -> list[Candidate]:
    """The `k` highest scores, best first; equal scores keep the order of the candidates."""
    return sorted(candidates, key=lambda candidate: (-candidate.score, candidate.ordinal))[:k]


@dataclass(frozen=True)
class TopK:
    """Stable top-k over this chunk's scores (paper: scores are not accumulated over chunks)."""

    @hookimpl
    def streamt1_select(self, run: Run, candidates: Sequence[Candidate]) -> list[Candidate]:
        return top_k(candidates, run.recipe.search.top_k)
