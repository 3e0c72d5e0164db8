"""Groups of candidates with one history."""

from __future__ import annotations

import math
from typing import Any

import pytest

from streamt1_plugins.api.tree import Tree
from streamt1_plugins.api.types import Node, Reading
from streamt1_plugins.export.groups import advantages, groups

READ = {"long": {"bright": Reading(0.5, 0.5)}}


def node(chunk: int, ordinal: int, parent: str | None, score: float, **more: Any) -> Node:
    return Node(chunk=chunk, ordinal=ordinal, parent=parent, seed=ordinal, score=score, readings=READ, **more)


def tree(*nodes: Node) -> Tree:
    return Tree({each.id: each for each in nodes})


def test_candidates_are_compared_with_those_of_the_same_history_alone() -> None:
    found = list(
        groups(
            tree(
                *(node(0, i, None, score) for i, score in enumerate((0.1, 0.9, 0.5))),
                *(node(1, i, "000.01", score) for i, score in enumerate((0.3, 0.4))),
                *(node(1, i, "000.02", score) for i, score in enumerate((0.8, 0.7), start=2)),
            )
        )
    )
    assert [[each.id for each in group.candidates] for group in found] == [
        ["000.00", "000.01", "000.02"],
        ["001.00", "001.01"],
        ["001.02", "001.03"],
    ]
    assert [[each.id for each in group.history] for group in found] == [[], ["000.01"], ["000.02"]]
    assert [(group.best.id, group.worst.id) for group in found] == [
        ("000.01", "000.00"),
        ("001.01", "001.00"),
        ("001.02", "001.03"),
    ]
    assert [group.chunk for group in found] == [0, 1, 1]


@pytest.mark.parametrize(
    "other",
    [
        node(0, 1, None, math.nan),
        node(0, 1, None, 0.5, problem="broken"),
        node(0, 1, None, 0.5, stage=1),
        node(0, 1, None, 0.5, stage=0),
        Node(chunk=0, ordinal=1, parent=None, seed=1, score=0.5),
        node(0, 1, None, 0.9),
    ],
    ids=["no score", "invalid", "pruned early", "unfinished", "unread", "alike"],
)
def test_candidates_that_do_not_compare_are_left_out(other: Node) -> None:
    assert list(groups(tree(node(0, 0, None, 0.9), other))) == []


def test_equal_scores_are_ordered() -> None:
    group = next(groups(tree(*(node(0, i, None, score) for i, score in enumerate((0.5, 0.9, 0.9, 0.5))))))
    assert (group.best.id, group.worst.id) == ("000.01", "000.03")


def test_advantages_have_no_mean_and_unit_spread() -> None:
    assert advantages([1.0, 3.0]) == [-1.0, 1.0]
    found = advantages([0.1, 0.2, 0.6])
    assert sum(found) == pytest.approx(0)
    assert sum(each**2 for each in found) / 3 == pytest.approx(1)
    assert advantages([0.5, 0.5]) == [0.0, 0.0]
