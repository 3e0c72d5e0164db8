"""Where the page puts nodes and lines."""

from __future__ import annotations

from pathlib import Path

from streamt1_plugins.runs.report import layout
from tests.runs.shared import recorded


def test_the_winner_stands_in_the_first_row_and_parents_left_of_children(tmp_path: Path) -> None:
    tree = recorded(tmp_path, "search.candidates=3").tree
    found = layout.cells(tree, tree.winner)
    assert [found[name].row for name in tree.winner] == [0, 0, 0, 0]
    assert len(layout.edges(found)) == 18
    assert [edge.kind for edge in layout.edges(found)][-3:] == ["winner"] * 3
