"""What a tree teaches: candidates that continue the same history, compared by their scores."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Node

LEAST = 1e-8
"""Scores of a standard deviation up to this are all alike."""


@dataclass(frozen=True)
class Group:
    """Scored candidates of one chunk with the same history: the path of nodes that `parent` ends, oldest first."""

    history: tuple[Node, ...]
    candidates: tuple[Node, ...]

    @property
    def chunk(self) -> int:
        """The chunk of the candidates."""
        return self.candidates[0].chunk

    @property
    def scores(self) -> list[float]:
        """The candidates' scores, in their order."""
        return [node.score for node in self.candidates]

    @property
    def best(self) -> Node:
        """The candidate with the highest score, the first of several."""
        return max(self.candidates, key=lambda node: (node.score, -node.ordinal))

    @property
    def worst(self) -> Node:
        """The candidate with the lowest score, the last of several."""
        return min(self.candidates, key=lambda node: (node.score, -node.ordinal))


def advantages(scores: Sequence[float]) -> list[float]:
    """``(r_i - mean(r)) / std(r)`` within a group (GRPO); all zero where the scores are alike."""
    middle, apart = fmean(scores), pstdev(scores)
    return [(score - middle) / apart if apart > LEAST else 0.0 for score in scores]


def groups(tree: Tree) -> Iterator[Group]:
    """The groups of a tree, chunk by chunk: those with two candidates or more whose scores are not all alike.

    Candidates that a reward failed on, that early pruning left unfinished or that an early stage of rewards pruned
    have no score that compares, and are left out. Those of branches that the search gave up are there.
    """
    for chunk in tree.chunks():
        scored = [node for node in tree if node.chunk == chunk and _counts(node)]
        for parent in dict.fromkeys(node.parent for node in scored):
            own = tuple(node for node in scored if node.parent == parent)
            if len(own) > 1 and pstdev([node.score for node in own]) > LEAST:
                yield Group(() if parent is None else tree.path(parent), own)


def _counts(node: Node) -> bool:
    return node.is_scored and node.is_eligible
