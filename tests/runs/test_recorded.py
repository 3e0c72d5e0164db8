"""A recorded run, read from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamt1_plugins.errors import InputError, PluginError
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun
from tests.runs.shared import Failing, recorded, run

OLD = Path(__file__).parents[1] / "data" / "runs-0.1"


def test_a_finished_run(tmp_path: Path) -> None:
    pipe = recorded(tmp_path)
    found = RecordedRun.read(tmp_path)
    assert found.recipe == pipe.last_run.recipe
    assert found.tree().to_dict() == pipe.tree.to_dict()
    assert tuple(node.id for node in found.winner) == pipe.tree.winner
    assert found.cost() == pipe.last_run.cost
    assert found.cost(2).candidates == 8
    assert found.cost(0).candidates == 0
    assert (found.status, found.error) == ("finished", None)
    assert found.frames == {0: 3, 1: 3, 2: 3, 3: 3}


def test_a_run_that_failed(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="oh"):
        run({**record_to(tmp_path), "failing": Failing(1, ValueError("oh"))})
    found = RecordedRun.read(tmp_path)
    assert found.status == "stopped: PluginError: 'failing' in streamt1_chunk_selected failed: ValueError: oh"
    assert [node.chunk for node in found.winner] == [0, 1]  # the best branch so far
    assert all(node.rank == 0 for node in found.winner[-1:])


def test_a_run_that_was_killed_before_its_first_chunk(tmp_path: Path) -> None:
    recorded(tmp_path)
    start = RecordedRun.read(tmp_path).start
    found = RecordedRun(tmp_path, [start])
    assert (found.status, found.winner, found.frames, found.seconds) == ("not finished", (), {}, 0.0)
    assert found.cost().candidates == 0


def test_time_and_chunks_count_on_after_an_interruption() -> None:
    events = [
        {"event": "started"},
        {"event": "chunk", "chunk": 0, "frames": 3, "seconds": 1.0},
        {"event": "chunk", "chunk": 1, "frames": 3, "seconds": 2.0},
        {"event": "resumed", "chunk": 1},
        {"event": "chunk", "chunk": 1, "frames": 2, "seconds": 0.5},
    ]
    assert RecordedRun(Path("run"), events).seconds == 2.5
    assert RecordedRun(Path("run"), events).frames == {0: 3, 1: 2}
    assert RecordedRun(Path("run"), events[:-1]).frames == {0: 3}


def test_costs_that_a_newer_version_counts_are_ignored() -> None:
    events = [{"event": "finished", "cost": {"candidates": 3, "heat": 1}}]
    assert RecordedRun(Path("run"), events).cost().candidates == 3


@pytest.mark.parametrize(
    ("where", "text"),
    [({"device": "cpu", "device_name": None}, "cpu"), ({"device": "cuda:0", "device_name": "A GPU"}, "cuda:0 (A GPU)")],
)
def test_the_device_comes_with_its_name(where: dict, text: str) -> None:
    assert RecordedRun(Path("run"), [{"event": "started", **where}]).device == text


def test_what_holds_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        RecordedRun.read(tmp_path)


def test_the_journal_gives_the_summary_that_is_in_the_folder(tmp_path: Path) -> None:
    recorded(tmp_path)
    found, written = RecordedRun.read(tmp_path).summary(), json.loads((tmp_path / "summary.json").read_text())
    for each in (found, written):
        del each["seconds"]["wall"]  # two clocks
    assert found == written


@pytest.mark.parametrize("name", ["finished", "interrupted", "toy"])
def test_a_journal_of_version_0_1_gives_the_summary_of_its_time(name: str) -> None:
    found, written = RecordedRun.read(OLD / name).summary(), json.loads((OLD / name / "summary.json").read_text())
    assert abs(found["seconds"].pop("wall") - written["seconds"].pop("wall")) < 0.1  # two clocks
    for size in ("height", "width"):  # not in those journals
        assert found["video"].pop(size) is None
        del written["video"][size]
    assert found == written


def test_the_summary_of_a_run_that_failed_before_its_first_chunk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        run(record_to(tmp_path), fail_at=0)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["video"], found["chunks"]) == ({}, {"done": 0, "of": 4})
    assert found["winner"] == {"path": [], "score": None, "whole_video": None}
    assert found["error"] == "RuntimeError: the pipeline broke"
