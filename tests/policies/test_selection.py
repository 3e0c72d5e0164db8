"""Top-k selection, with and without a quota per parent."""

from __future__ import annotations

import math
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.api.types import Node
from streamt1_plugins.policies.selection import top_k
from tests.toy import ToyPipeline


def scored(*scores: float) -> list[Node]:
    return [Node(chunk=0, ordinal=i, parent=None, seed=i, score=score) for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "k", "kept"),
    [
        ((1, 3, 2), 2, [1, 2]),
        ((2, 2, 2), 2, [0, 1]),
        ((1, 2, 2, 1), 3, [1, 2, 0]),
        ((1, 2), 5, [1, 0]),
        ((0.0, -0.0), 1, [0]),
        ((-math.inf, -1e308), 1, [1]),
    ],
)
def test_top_k_is_stable(scores: tuple[float, ...], k: int, kept: list[int]) -> None:
    candidates: list[Any] = scored(*scores)
    assert [candidate.ordinal for candidate in top_k(candidates, k)] == kept
    assert [candidate.ordinal for candidate in top_k(candidates[::-1], k)] == kept


@pytest.mark.parametrize(
    ("parents", "k", "per_parent", "kept"),
    [
        ("aaab", 2, 1, [0, 3]),
        ("aaab", 2, 2, [0, 1]),
        ("aaab", 2, None, [0, 1]),
        ("aaab", 3, 1, [0, 1, 3]),  # too few parents: the next best fills up, and ranks stay those of the scores
        ("aaaa", 3, 1, [0, 1, 2]),
        ("aabb", 9, 1, [0, 1, 2, 3]),
        ("abab", 1, 1, [0]),
        ("    ", 3, 1, [0, 1, 2]),  # the first chunk: children of nobody compete freely
    ],
)
def test_a_quota_keeps_survivors_of_several_parents(
    parents: str, k: int, per_parent: int | None, kept: list[int]
) -> None:
    candidates: list[Any] = [
        Node(chunk=1, ordinal=i, parent=parent.strip() or None, seed=i, score=-i) for i, parent in enumerate(parents)
    ]
    assert [candidate.ordinal for candidate in top_k(candidates, k, per_parent)] == kept
    assert [candidate.ordinal for candidate in top_k(candidates[::-1], k, per_parent)] == kept


WIDE = ("search.candidates=4", "search.top_k=2")


def run(*overrides: str, recipe: str = "stream-t1") -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides)
    pipe.video = pipe("a prompt", chunks=6)
    return pipe


def parents(pipe: streamt1.StreamPipeline) -> list[set[str | None]]:
    """The parents of the survivors of every chunk but the first."""
    return [{node.parent for node in pipe.tree.chunk(i) if node.fate == "kept"} for i in range(1, 6)]


def test_a_quota_keeps_both_beams_alive() -> None:
    assert any(len(each) == 1 for each in parents(run(*WIDE)))  # without one, a parent sometimes takes both places
    diverse = run(*WIDE, "selection.per_parent=1")
    assert all(len(each) == 2 for each in parents(diverse))
    for index in range(6):
        best = max(diverse.tree.chunk(index), key=lambda node: node.score)
        assert best.rank == 0


def test_a_quota_that_cannot_be_met_still_fills_every_place() -> None:
    pipe = run("search.candidates=4", "search.top_k=3", "selection.per_parent=1")
    assert all(sum(node.fate == "kept" for node in pipe.tree.chunk(i)) == 3 for i in range(6))
    nobody_else = run(*WIDE, "selection.per_parent=1", "rewards.short={picky: {options: {ordinals: [4, 5, 6, 7]}}}")
    kept = [node for node in nobody_else.tree.chunk(1) if node.fate == "kept"]
    assert len(kept) == 2
    assert len({node.parent for node in kept}) == 1


def test_a_close_call_under_a_quota_is_one_between_equals() -> None:
    pipe = run(*WIDE, "selection.per_parent=1", "search.batch=4")
    assert not [note for note in pipe.tree.notes if "close call" in note]
