"""Where the page puts nodes, lines and curves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from streamt1_plugins.api.tree import Tree
from streamt1_plugins.api.types import EARLY, Node, Reading
from streamt1_plugins.runs.report import layout, scores
from tests.runs.shared import recorded


def test_the_winner_stands_in_the_first_row_and_parents_left_of_children(tmp_path: Path) -> None:
    tree = recorded(tmp_path, "search.candidates=3").tree
    found = layout.cells(tree, tree.winner)
    assert [found[name].row for name in tree.winner] == [0, 0, 0, 0]
    assert len(layout.edges(found)) == 18
    assert [edge.kind for edge in layout.edges(found)][-3:] == ["winner"] * 3
    assert {edge.node for edge in layout.edges(found)} == {node.id for node in tree if node.parent}


def test_candidates_without_a_score_are_ordered_by_what_was_measured() -> None:
    reading = {"long": {"bright": Reading(0.5, 1.0)}}
    nodes = [
        Node(chunk=0, ordinal=place, parent=None, seed=1, readings=reading, stage=EARLY, long=long)
        for place, long in enumerate((0.1, 0.9, math.nan, 0.5))
    ]
    found = layout.cells(Tree({node.id: node for node in nodes}), [])
    assert sorted(found, key=lambda name: found[name].row) == ["000.01", "000.03", "000.00", "000.02"]


def scored(*values: float) -> Tree:
    reading = {"long": {"bright": Reading(0.5, 1.0)}}
    nodes = [
        Node(chunk=chunk, ordinal=0, parent=None, seed=1, readings=reading, score=value, rank=0)
        for chunk, value in enumerate(values)
    ]
    return Tree({node.id: node for node in nodes})


def test_a_standardised_axis_holds_zero() -> None:
    tree = scored(2.0, 3.0)
    with_zero, without = (layout.curves(tree, [*tree.nodes], scores.score, zero=zero) for zero in (True, False))
    assert with_zero is not None
    assert without is not None
    assert [label for label, _ in with_zero.ticks] == ["3.00", "0"]
    assert [label for label, _ in without.ticks] == ["3.00", "2.00"]
    assert without.axis.zero is None
    crossing = layout.curves(scored(-1.0, 1.0), [], scores.score)
    assert crossing is not None
    assert [label for label, _ in crossing.ticks] == ["1.00", "-1.00", "0"]
    assert crossing.axis.zero == layout.UNIT / 2


def test_values_that_are_close_have_labels_that_differ() -> None:
    found = layout.curves(scored(0.4021, 0.4043), [], scores.score)
    assert found is not None
    assert len({label for label, _ in found.ticks}) == 2


def test_one_chunk_has_no_curve() -> None:
    assert layout.curves(scored(1.0), ["000.00"], scores.score) is None


@pytest.mark.parametrize(
    ("values", "few"),
    [((0.0, 10.0), 3), ((0.40, 0.42), 3), ((0.4021, 0.4043), 4), ((1.0, 1.0), 3), ((), 3), ((0, 1e-30), 6)],
)
def test_digits_grow_where_values_are_close(values: tuple[float, ...], few: int) -> None:
    assert layout.digits(values, least=3) == few
