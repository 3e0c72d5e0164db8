"""The observer `journal`: a run on disk as it happens, also when the disk is full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import OutputError
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.observers.journal import Journal
from tests.runs.shared import recorded, run
from tests.toy import ToyPipeline


def test_a_full_disk_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if b'"event": "chunk"' in data and b'"chunk": 1' in data and not full.failed:
            full.failed = True
            raise OSError(28, "No space left on device")
        return real(file, data, offset)

    full.failed = False
    monkeypatch.setattr(os, "pwrite", full)
    tree = recorded(tmp_path).tree
    assert "was not updated" in caplog.text
    assert journal.tree_of(journal.read(tmp_path)).to_dict() == tree.to_dict()


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    recorded(tmp_path)
    with pytest.raises(OutputError, match="already holds a run"):
        streamt1.wrap(ToyPipeline(), observers={"journal": Journal(str(tmp_path))})("a prompt")


def test_the_last_line_of_a_failing_run_names_the_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        recorded(tmp_path, fail_at=2)
    last = journal.read(tmp_path)[-1]
    assert (last["event"], last["winner"], last["error"]) == ("finished", [], "RuntimeError: the pipeline broke")


def test_odd_prompts_survive(tmp_path: Path) -> None:
    prompt = "line\nbreak \u2028 \udcff \x00 </script> \U0001f600"
    streamt1.wrap(ToyPipeline(), observers={"journal": Journal(str(tmp_path))})(prompt)
    assert journal.read(tmp_path)[0]["prompt"] == prompt


def test_a_checkpoint_is_written_unless_it_is_switched_off(tmp_path: Path) -> None:
    run({"journal": Journal(str(tmp_path / "with"))})
    run({"journal": Journal(str(tmp_path / "without"), state=False)})
    assert (tmp_path / "with" / "state" / "head.safetensors").exists()
    assert not (tmp_path / "without" / "state").exists()


def test_a_journal_is_continued_on_demand(tmp_path: Path) -> None:
    run({"journal": Journal(str(tmp_path))})
    before = journal.read(tmp_path)
    run({"journal": Journal(str(tmp_path), append=True)})
    after = journal.read(tmp_path)
    assert after[: len(before)] == before
    assert after[len(before)]["event"] == "resumed"
