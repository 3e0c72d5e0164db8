"""The journal: what it holds, what survives a crash, and that the tree can be read back from it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from streamt1_plugins.runs import journal
from tests.runs.shared import recorded, rewrite

RESUMED: dict[str, Any] = {"event": "resumed", "time": "", "chunk": 0, "device": "cpu", "versions": {}}


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("search.candidates=5", "search.top_k=3"),
        ("rewards.short={picky: {weight: 2.5, options: {ordinals: [0, 2]}}}",),
        ("rewards.short={picky: {options: {ordinals: [0, 1, 2, 3]}}}",),
        ("adapter.routed=false", "search.final=last_chunk"),
    ],
)
def test_the_tree_comes_back_from_the_journal(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    tree = recorded(tmp_path, *overrides).tree
    found = journal.tree_of(journal.read(tmp_path))
    assert found.to_dict() == tree.to_dict()
    assert found.to_dict() == json.loads((tmp_path / "tree.json").read_text())
    for name, node in found.nodes.items():
        assert repr(node.readings) == repr(dict(tree.nodes[name].readings))  # weights too; repr, because of NaN


def test_the_tree_as_it_was_after_some_chunks(tmp_path: Path) -> None:
    whole = recorded(tmp_path).tree
    early = journal.tree_of(journal.read(tmp_path), chunks=2)
    assert list(early.nodes) == [node.id for node in whole if node.chunk < 2]
    assert early.winner == ()


def test_the_first_line_leads_to_the_same_recorded(tmp_path: Path) -> None:
    pipe = recorded(tmp_path, "seed=7", chunks=3)
    first = journal.read(tmp_path)[0]
    assert streamt1.Recipe.model_validate(first["recipe"]) == pipe.last_run.recipe
    assert (first["prompt"], first["seed"], first["call"]["chunks"]) == ("a prompt", 7, 3)


def test_a_torn_last_line_is_ignored_and_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    recorded(tmp_path)
    path = tmp_path / journal.JOURNAL
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (1, len(lines[-1]) // 2, len(lines[-1]) - 1):
        path.write_bytes(whole[:-cut])
        assert len(journal.read(tmp_path)) == len(lines) - 1
    writer = journal.JournalFile(path)
    writer.add(RESUMED, sync=True)
    writer.close()
    assert [event["event"] for event in journal.read(tmp_path)[-2:]] == ["chunk", "resumed"]
    assert json.loads(path.read_bytes().splitlines()[-1])["line"] == len(lines)


def test_lines_are_numbered_and_damage_is_named_by_line(tmp_path: Path) -> None:
    recorded(tmp_path)
    path = tmp_path / journal.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["line"] for line in lines] == list(range(1, len(lines) + 1))
    later = lines[6].replace(b'"seconds": 0.', b'"seconds": 1.')
    path.write_bytes(b"".join([*lines[:2], lines[2][:40] + b"\n", *lines[3:6], later, *lines[7:9], *lines[10:]]))
    found = journal.read_lines(tmp_path)
    assert found.dropped == ["line 3 (torn)", "line 7 (changed after it was written)", "1 that is missing"]
    assert len(found.events) == len(lines) - 3


def test_events_of_newer_versions_are_ignored(tmp_path: Path) -> None:
    recorded(tmp_path)
    before = journal.read(tmp_path)
    rewrite(tmp_path, lambda events: events.insert(3, {"event": "later", "chunk": "?"}))
    assert journal.read(tmp_path) == before


def test_a_field_of_the_wrong_type_is_an_error_with_file_line_and_field(tmp_path: Path) -> None:
    recorded(tmp_path)
    rewrite(tmp_path, lambda events: events[3].update(seed="\x1b[31m"))
    with pytest.raises(InputError, match=r"journal\.jsonl, line 4: seed = '\\x1b\[31m': Input should be"):
        journal.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "not a journal"), ('{"event": "chunk"}\n', "not a journal"), ('{"event": "started", "schema": 99}\n', "99")],
)
def test_what_is_no_journal_is_an_error(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / journal.JOURNAL).write_text(content)
    with pytest.raises(InputError, match=problem):
        journal.read(tmp_path)


def test_a_write_that_fails_half_way_leaves_no_half_line(
    tmp_path: Path, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = journal.JournalFile(tmp_path / journal.JOURNAL)
    writer.add(json.loads(lines[0]))
    real = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        real(file, data[:10], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        writer.add(RESUMED)
    monkeypatch.undo()
    assert len(journal.read(tmp_path)) == 1
    writer.add({**RESUMED, "chunk": 1})
    assert [event.get("chunk") for event in journal.read(tmp_path)] == [None, 0, 1]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a whole journal."""
    folder = tmp_path_factory.mktemp("whole")
    recorded(folder, chunks=2)
    return (folder / journal.JOURNAL).read_bytes().splitlines(keepends=True)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_torn_at_any_byte_reads_up_to_there_and_is_continued(
    tmp_path: Path, lines: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(lines)
    kept = whole[: data.draw(st.integers(len(lines[0]), len(whole)), label="bytes kept")]
    garbage = data.draw(st.binary(max_size=40).filter(lambda tail: b"\n" not in tail), label="garbage")
    path = tmp_path / journal.JOURNAL
    path.write_bytes(kept + garbage)
    path.with_name("whole").mkdir(exist_ok=True)
    (path.with_name("whole") / journal.JOURNAL).write_bytes(b"".join(lines[: kept.count(b"\n")]))
    complete = journal.read(path.with_name("whole"))
    assert journal.read(tmp_path) == complete
    journal.tree_of(complete)
    writer = journal.JournalFile(path)
    writer.add(RESUMED)
    writer.close()
    assert journal.read(tmp_path) == [*complete, RESUMED]
