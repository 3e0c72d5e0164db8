"""Files that are written whole or not at all, and run folders that one process uses at a time."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamt1_plugins.errors import OutputError
from streamt1_plugins.runs.files import LOCK, Claim, check_writable, to_json, write_atomically
from streamt1_plugins.runs.observers.record import record_to
from tests.runs.shared import run

HOLD = """
import sys
from pathlib import Path
from streamt1_plugins.runs.files import Claim
claim = Claim(Path(sys.argv[1]))
print("claimed", flush=True)
sys.stdin.read()
claim.release()
"""


@contextmanager
def other_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        yield process
        process.communicate()


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission"):
        check_writable(tmp_path / "a" / "b")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 256, "a name of more than 255 bytes"),
        ("é" * 128, "a name of more than 255 bytes"),
        ("a/" * 5000, "File name too long"),
        ("a\0b", "a NUL character"),
    ],
)
def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(OutputError, match=message):
        check_writable(tmp_path / name)


def test_a_folder_named_tilde_is_never_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for each in ("~/runs/x", "~", "~someone/x"):
        with pytest.raises(OutputError, match="write the home folder in full"):
            check_writable(Path(each))
    check_writable(Path("runs/~"))


@pytest.mark.parametrize("durable", [False, True])
def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    target = tmp_path / "f"
    write_atomically(target, "old", durable=durable)

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"new", durable=durable)
    assert [file.name for file in tmp_path.iterdir()] == ["f"]
    assert target.read_text() == "old"


def test_a_durable_file_and_its_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append("folder" if os.path.isdir(f"/proc/self/fd/{file}") else "file")
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "f", "text")
    assert synced == []
    write_atomically(tmp_path / "f", "text", durable=True)
    assert synced == ["file", "folder"]


def test_json_has_no_nan() -> None:
    assert json.loads(to_json({"a": [float("nan"), 1.5], "b": {"c": float("inf")}})) == {
        "a": [None, 1.5],
        "b": {"c": None},
    }


def test_claims_of_one_process_share_a_folder_and_the_last_one_cleans_up(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first, second = Claim(folder), Claim(folder)
    first.release()
    assert (folder / LOCK).exists()
    second.release()
    assert list(folder.iterdir()) == []


def test_a_run_in_the_folder_of_another_process_is_refused_before_anything_is_generated(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with other_process(folder), pytest.raises(OutputError, match="Another process is writing to the run folder"):
        run(record_to(folder))
    assert list(folder.iterdir()) == []
    run(record_to(folder))
    assert (folder / "summary.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_leaves_its_folder_free(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        process.kill()
    assert (tmp_path / LOCK).exists()
    Claim(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_on_a_disk_without_locks_the_run_goes_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", unsupported)
    Claim(tmp_path).release()
    assert "without file locks" in caplog.text
