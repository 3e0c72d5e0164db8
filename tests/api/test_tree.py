"""The tree: order, families, paths and plain data."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import pytest

from streamt1_plugins.api.tree import Tree, node_of, node_record
from streamt1_plugins.api.types import Node, Reading, Variation


def node(chunk: int, ordinal: int, parent: str | None = None, **more: object) -> Node:
    return Node(chunk=chunk, ordinal=ordinal, parent=parent, seed=10 * chunk + ordinal, **more)


@pytest.fixture
def tree() -> Tree:
    made = Tree()
    for each in (node(0, 0), node(0, 1), node(1, 0, "000.01"), node(1, 1, "000.01"), node(2, 0, "001.00")):
        made.add(each)
    return made


def test_families(tree: Tree) -> None:
    assert [n.id for n in tree.chunk(1)] == ["001.00", "001.01"]
    assert [n.id for n in tree.children(None)] == ["000.00", "000.01"]
    assert [n.id for n in tree.children("000.01")] == ["001.00", "001.01"]
    assert tree.children("000.00") == []
    assert [n.id for n in tree.path("002.00")] == ["000.01", "001.00", "002.00"]
    assert len(tree) == 5


def test_survivors_and_scores_of_a_chunk() -> None:
    judged = {"short": {"bright": Reading(0.5, 0.5)}}
    tree = Tree()
    tree.add(node(3, 0, readings=judged, score=0.2, fate="kept", rank=1))
    tree.add(node(3, 1, readings=judged, score=math.inf, fate="invalid", problem="The score is not finite."))
    tree.add(node(3, 2, score=0.0, fate="kept", rank=0))
    tree.add(node(1, 0, score=0.7))
    assert tree.chunks() == [1, 3]
    assert [each.id for each in tree.kept(3)] == ["003.02", "003.00"]
    assert tree.scores(3) == [0.2]  # no reward judged the third one: its score is only a placeholder
    assert (tree.kept(1), tree.scores(1)) == ([], [])


def test_a_node_added_again_is_replaced_in_its_place(tree: Tree) -> None:
    tree.add(node(0, 1, fate="kept", rank=0))
    assert [n.id for n in tree][:2] == ["000.00", "000.01"]
    assert tree.nodes["000.01"].fate == "kept"
    assert len(tree) == 5


def test_a_note_is_kept_once(tree: Tree) -> None:
    tree.note("twice")
    tree.note("twice")
    assert tree.notes == ["twice"]


def test_the_record_is_plain_json_without_nan(tree: Tree) -> None:
    readings = {"short": {"a": Reading(1.0, math.nan)}}
    tree.add(node(0, 0, readings=readings, short=math.inf, score=-math.inf, problem="bad", seconds=0.123456))
    tree.final = {"002.00": math.nan, "001.00": 1.5}
    tree.winner = ("000.01",)
    data = json.loads(json.dumps(tree.to_dict(), allow_nan=False))
    assert data["schema"] == 1
    assert data["winner"] == ["000.01"]
    assert data["final"] == {"002.00": None, "001.00": 1.5}
    first = data["nodes"][0]
    assert first["rewards"] == {"short": {"a": {"raw": 1.0, "value": None}}}
    assert (first["short"], first["score"], first["problem"], first["seconds"]) == (None, None, "bad", 0.1235)


def test_the_record_holds_every_field_of_a_node() -> None:
    renamed = {"readings": "rewards"}
    fields = {renamed.get(name, name) for name in Node.__dataclass_fields__}
    rare = {"previewed": True, "round": 1, "varies": Variation("000.00", 0.5)}
    assert set(node_record(replace(node(0, 0), **rare))) == fields | {"id"}
    assert set(node_record(node(0, 0))) == fields - rare.keys() | {"id"}


def test_a_node_comes_back_from_its_record_as_json_holds_it() -> None:
    readings = {"short": {"a": Reading(1.0, math.nan, 2.5)}, "long": {"b": Reading(0.1, 0.2)}}
    decided = {
        "round": 2,
        "varies": Variation("003.00", 0.5, "initial"),
        "route": "ema",
        "fate": "kept",
        "rank": 1,
        "problem": "odd",
        "stage": 2,
        "propagated": True,
    }
    made = node(3, 1, "002.00", readings=readings, short=math.nan, long=0.1, score=1 / 3, seconds=0.5, **decided)
    record = json.loads(json.dumps({"event": "candidate", **node_record(made)}, allow_nan=False))
    back = node_of(record, {("short", "a"): 2.5})
    assert repr(back) == repr(made)  # repr, because of NaN


def test_a_record_of_a_version_without_stages_is_read() -> None:
    record = node_record(node(0, 0))
    del record["stage"]
    assert node_of(record, {}).stage is None


def test_ids_sort_in_the_order_of_the_search() -> None:
    ids = [node(chunk, ordinal).id for chunk in (0, 9, 10, 339) for ordinal in (0, 9, 10, 99)]
    assert ids == sorted(ids)


# Shown in a prompt, a notebook, a table.


@pytest.fixture
def judged() -> Tree:
    """Two chunks; in the second, one candidate was not judged."""
    found = Tree(winner=("000.00", "001.01"))
    for chunk, ordinal, score, fate in ((0, 0, 0.5, "kept"), (0, 1, 0.1, "pruned"), (1, 0, math.nan, "invalid")):
        readings = {} if math.isnan(score) else {"long": {"a": Reading(score * 2, score)}}
        found.add(node(chunk, ordinal, readings=readings, score=score, fate=fate, rank=None if ordinal else 0))
    found.add(node(1, 1, "000.00", readings={"short": {"b": Reading(1.0, 1.0)}}, score=0.7, fate="kept", rank=0))
    found.note("<b>odd</b>")
    return found


def test_it_is_shown_in_a_line(judged: Tree) -> None:
    assert repr(judged) == "<Tree: 4 candidates in 2 chunks, winner 000.00 > 001.01, 1 note>"
    assert repr(Tree()) == "<Tree: 0 candidates in 0 chunks>"
    long = Tree(winner=tuple(f"{chunk:03d}.00" for chunk in range(40)))
    assert repr(long) == "<Tree: 0 candidates in 0 chunks, winner 000.00 > 001.00 > ... > 038.00 > 039.00>"


def test_a_notebook_shows_a_row_per_chunk_and_runs_nothing_of_a_note(judged: Tree) -> None:
    shown = judged._repr_html_()
    assert "<tr><td>0</td><td>2</td><td>0.500</td><td>0.300</td><td><b>000.00</b></td></tr>" in shown
    assert shown.count("<tr>") == 3
    assert "Note: &lt;b&gt;odd&lt;/b&gt;" in shown


def test_rows_have_the_same_keys_and_plain_values(judged: Tree) -> None:
    rows = judged.rows()
    assert [row["id"] for row in rows] == [each.id for each in judged]
    assert len({tuple(row) for row in rows}) == 1
    assert [row["winner"] for row in rows] == [True, False, False, True]
    assert (rows[0]["long/a"], rows[3]["short/b"]) == (1.0, 1.0)
    assert math.isnan(rows[0]["short/b"])
    assert Tree().rows() == []


def test_the_table_is_a_data_frame_where_pandas_is_installed(judged: Tree) -> None:
    pandas = pytest.importorskip("pandas")
    table = judged.table()
    assert isinstance(table, pandas.DataFrame)
    assert table.loc["001.01", "score"] == 0.7
    assert table.groupby("chunk")["score"].max().to_list() == [0.5, 0.7]
    assert len(Tree().table()) == 0


def test_the_table_is_rows_without_pandas(judged: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert repr(judged.table()) == repr(judged.rows())  # repr, because of NaN
