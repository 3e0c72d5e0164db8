"""A full disk: the error names everything that is missing and how to go on, and nothing that was generated is lost."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import OutputError
from streamt1_plugins.runs import files
from streamt1_plugins.runs.journal import JournalFile
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.way_on import resume_with
from tests.launching import without_times
from tests.toy import ToyPipeline, ToySession

NAMES = {
    "video.mp4": "the video {}/video.mp4 could not be written",
    "summary.json": "The record of the run could not be brought up to date in {}",
    "report.html": "The page {}/report.html could not be written",
    "journal.jsonl": "The journal in {} could not be finished",
}
"""What is written at the end, and how its loss is named."""
ALL = tuple(NAMES)


class Disk:
    """Full for files of some names, from a chunk on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def fill(self, names: tuple[str, ...], chunk: int) -> None:
        full = {"is": chunk == 0}
        commit, replace, add = ToySession.commit, Path.replace, JournalFile.add

        def committed(session: Any, history: Any, *rest: Any) -> Any:
            full["is"] = full["is"] or history.index + 1 >= chunk
            return commit(session, history, *rest)

        def replaced(path: Path, target: Path) -> Any:
            self._check(full["is"], names, target.name)
            return replace(path, target)

        def added(journal: Any, event: Any, **options: Any) -> None:
            self._check(full["is"] and event["event"] == "finished", names, "journal.jsonl")
            add(journal, event, **options)

        self._patch.setattr(ToySession, "commit", committed)
        self._patch.setattr(Path, "replace", replaced)
        self._patch.setattr(JournalFile, "add", added)

    def _check(self, is_full: bool, names: tuple[str, ...], name: str) -> None:
        if is_full and any(name == each or (each == "state" and name.endswith(".safetensors")) for each in names):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def made(folder: Path) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), observers=record_to(folder))
    pipe("a prompt")
    return pipe


def whole(folder: Path) -> tuple[Any, bytes]:
    """The tree and the video of an undisturbed run."""
    pipe = made(folder)
    return without_times(pipe.tree.to_dict()), (folder / "video.mp4").read_bytes()


@pytest.mark.parametrize("names", [*((name,) for name in NAMES), ALL, (*ALL, "state", "tree.json")], ids="+".join)
def test_the_error_names_all_that_failed_and_resume_once_and_resume_makes_it(
    names: tuple[str, ...], disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, video = whole(tmp_path / "whole")
    folder = tmp_path / "run"
    disk.fill(names, chunk=3)
    with pytest.raises(OutputError, match="No space left on device") as found:
        made(folder)
    message = str(found.value)
    for name, words in NAMES.items():
        assert (words.format(folder) in message) == (name in names), message
    assert message.count("streamt1_plugins.resume(") == 1
    assert message.endswith(f"{files.WAY_ON}{resume_with(folder)}")
    monkeypatch.undo()
    streamt1.resume(folder, ToyPipeline())
    assert (folder / "video.mp4").read_bytes() == video
    assert without_times(_tree(folder)) == tree


def _tree(folder: Path) -> Any:
    from streamt1_plugins.runs.recorded import RecordedRun

    return RecordedRun.read(folder).tree().to_dict()


def test_without_a_checkpoint_no_resume_is_promised(disk: Disk, tmp_path: Path) -> None:
    observers: dict[str, object] = record_to(tmp_path / "run")
    del observers["journal"], observers["report"]
    disk.fill(("video.mp4",), chunk=1)
    with pytest.raises(OutputError, match=r"the video .* could not be written: No space left on device") as found:
        streamt1.wrap(ToyPipeline(), observers=observers)("a prompt")
    assert "resume(" not in str(found.value)


def limited(size: int, work: Callable[[], None]) -> None:
    """Do `work` where no file may become larger than `size` bytes: the system itself refuses to write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs limits of POSIX")
def test_a_real_limit_of_the_system_loses_nothing_either(tmp_path: Path) -> None:
    tree, video = whole(tmp_path / "whole")
    with pytest.raises(OutputError, match=r"File too large.*streamt1_plugins\.resume\("):
        limited(8192, lambda: made(tmp_path / "run") and None)
    streamt1.resume(tmp_path / "run", ToyPipeline())
    assert (tmp_path / "run" / "video.mp4").read_bytes() == video
    assert without_times(_tree(tmp_path / "run")) == tree
