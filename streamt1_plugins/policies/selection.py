"""Pruning: the best `search.top_k` candidates of a chunk survive, with a quota per parent where one is set."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.config.rewards import Count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run


def top_k(candidates: Sequence[Candidate], k: int, per_parent: int | None = None) -> list[Candidate]:
    """The `k` highest scores, best first; equal scores keep the order of the candidates.

    At most `per_parent` of them continue the same parent. Where that leaves places free, the best of those turned away
    fill them. Candidates of the first chunk have no parent and compete freely.
    """
    ranked = sorted(candidates, key=lambda candidate: (-candidate.score, candidate.ordinal))
    if per_parent is None:
        return ranked[:k]
    within, beyond = _by_quota(ranked, per_parent)
    chosen = {candidate.ordinal for candidate in [*within, *beyond][:k]}
    return [candidate for candidate in ranked if candidate.ordinal in chosen]


def _by_quota(ranked: Sequence[Candidate], per_parent: int) -> tuple[list[Candidate], list[Candidate]]:
    """(within the quota of their parent, beyond it), both best first."""
    children: Counter[str] = Counter()
    within: list[Candidate] = []
    beyond: list[Candidate] = []
    for candidate in ranked:
        if candidate.parent is not None:
            children[candidate.parent] += 1
        full = candidate.parent is not None and children[candidate.parent] > per_parent
        (beyond if full else within).append(candidate)
    return within, beyond


@dataclass(frozen=True)
class TopK:
    """Stable top-k over this chunk's scores.

    per_parent: survivors with the same parent at most, null for any number (the paper); more only where places would
    stay free.
    """

    needs_frames: ClassVar[bool] = False

    per_parent: Count | None = None

    @hookimpl
    def streamt1_select(self, run: Run, candidates: Sequence[Candidate]) -> list[Candidate]:
        return top_k(candidates, run.recipe.search.top_k, self.per_parent)
