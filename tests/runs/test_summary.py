"""The summary, derived from the journal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun
from tests.runs.shared import recorded, run

OLD = Path(__file__).parents[1] / "data" / "runs-0.1"


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


def test_a_run_that_failed_before_its_first_chunk(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        run(record_to(tmp_path), fail_at=0)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["video"], found["chunks"]) == ({}, {"done": 0, "of": 4})
    assert found["winner"] == {"path": [], "score": None, "whole_video": None}
    assert found["error"] == "RuntimeError: the pipeline broke"
