"""`record_to`: the observers that leave a whole run in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamt1_plugins.errors import OutputError
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun
from tests.runs.shared import run


def test_a_folder_has_everything_once_and_a_second_run_only_on_demand(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    run(record_to(folder))
    files = {"journal.jsonl", "recipe.yaml", "report.html", "state", "strips", "summary.json", "tree.json", "video.mp4"}
    assert {path.name for path in folder.iterdir()} == files
    before = (folder / "journal.jsonl").read_bytes()
    with pytest.raises(OutputError, match="already holds a run"):
        run(record_to(folder))
    assert (folder / "journal.jsonl").read_bytes() == before
    run(record_to(str(folder), append=True))
    assert [event["event"] for event in RecordedRun.read(folder).events].count("resumed") == 1


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run(record_to("~/run"))
    assert RecordedRun.read("~/run").status == "finished"
    assert (tmp_path / "run" / "video.mp4").exists()
