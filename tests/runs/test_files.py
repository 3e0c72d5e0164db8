"""Files that are written whole or not at all, and run folders that one process uses at a time."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import FolderInUseError, InputError, OutputError
from streamt1_plugins.runs import files
from streamt1_plugins.runs.files import (
    HOLDER,
    LOCK,
    Claim,
    _mark,
    alone_in,
    alone_with,
    check_writable,
    new_folder,
    read_file,
    to_json,
    write_atomically,
)
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun
from tests.runs.shared import run
from tests.toy import ToyPipeline

HOLD = """
import sys
from pathlib import Path
from streamt1_plugins.runs.files import Claim
claim = Claim(Path(sys.argv[1]))
print("claimed", flush=True)
sys.stdin.read()
claim.release()
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses at once."""
    monkeypatch.setattr(files, "PATIENCE", 0.05)


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


def test_a_run_in_the_folder_of_another_process_is_refused_with_its_name_before_anything_is_generated(
    tmp_path: Path, impatient: None
) -> None:
    folder = tmp_path / "run"
    with other_process(folder) as process:
        named = f"Another process is writing to the run folder .*: process {process.pid} on the host '{gethostname()}'"
        with pytest.raises(FolderInUseError, match=named):
            run(record_to(folder))
    assert list(folder.iterdir()) == []
    run(record_to(folder))
    assert (folder / "summary.json").exists()


def test_two_runs_of_one_process_do_not_share_a_folder(tmp_path: Path) -> None:
    mine = Claim(tmp_path, owner="a run")
    with pytest.raises(FolderInUseError, match="Another run of this process"):
        Claim(tmp_path, owner="another run")
    Claim(tmp_path, owner="a run").release()
    mine.release()
    Claim(tmp_path, owner="another run").release()


def test_a_folder_that_is_no_runs_is_reserved_with_whatever_files_it_has(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    with alone_in(tmp_path):
        with pytest.raises(FolderInUseError, match=f"writing to the folder {tmp_path}"), alone_in(tmp_path):
            pass
        with pytest.raises(FolderInUseError, match=f"writing to the run folder {tmp_path}"):
            Claim(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["journal.jsonl"]


def test_one_process_at_a_time_works_on_a_file(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    with alone_with(a) as first, alone_with(a) as second, alone_with(b) as other:
        assert (first, second, other) == (True, False, True)
    with alone_with(tmp_path / "a") as again:
        assert again
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [NotImplementedError(), OSError(errno.ENOLCK, "No locks available")])
def test_a_disk_without_locks_lets_every_process_work_on_a_file(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_: object) -> None:
        raise error

    monkeypatch.setattr(files.FileLock, "acquire", failing)
    with alone_with(tmp_path / "a") as mine:
        assert mine


def test_a_lock_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="lock cannot be written"), alone_with(tmp_path / "file" / "a"):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_does_not_have_the_claims_of_its_parent(tmp_path: Path, impatient: None) -> None:
    claim = Claim(tmp_path)
    child = os.fork()
    if child == 0:
        try:
            Claim(tmp_path)
        except FolderInUseError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    with other_process_refused(tmp_path):
        claim.release()


@contextmanager
def other_process_refused(folder: Path) -> Iterator[None]:
    """The folder is still claimed after the child has ended."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, input="", check=False)
    assert "FolderInUseError" in found.stderr
    yield


@pytest.mark.parametrize("name", ["journal.jsonl", "state", "strips", "recipe.yaml", "video.mp4", ".lock"])
def test_a_link_in_the_place_of_a_file_is_refused_and_not_followed(tmp_path: Path, name: str) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.write_text("mine")
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(InputError, match=f"{name} is a symbolic link"):
        Claim(folder)
    assert elsewhere.read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_only_regular_files_within_bounds_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    assert read_file(tmp_path / "file", 5) == b"12345"
    for name, problem in {
        "pipe": "not a regular file",
        "folder": "not a regular file",
        "link": "symbolic link",
        "file": "has 5 bytes; .* at most 4",
        "large": "1,099,511,627,776 bytes",
        "none": "cannot be read",
    }.items():
        with pytest.raises(InputError, match=problem):
            read_file(tmp_path / name, 4)


def test_a_run_folder_may_be_reached_through_a_link(tmp_path: Path) -> None:
    run(record_to(tmp_path / "run"))
    (tmp_path / "link").symlink_to(tmp_path / "run", target_is_directory=True)
    assert RecordedRun.read(tmp_path / "link").status == "finished"
    streamt1.resume(tmp_path / "link", ToyPipeline())


def test_what_a_killed_process_was_writing_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    names = {
        tmp_path: [".video.mp4.123.part", ".tree.json.7-3.part"],
        tmp_path / "state": [".head.safetensors.9-0.part"],
        tmp_path / "strips": [".001.00-12.webp.9-1.part"],
    }
    mine = [tmp_path / ".thesis.tex.1.part", tmp_path / "video.mp4.part", tmp_path / ".video.mp4.part"]
    for folder, parts in names.items():
        folder.mkdir(exist_ok=True)
        for name in parts:
            (folder / name).write_text("half")
    for path in mine:
        path.write_text("mine")
    with (tmp_path / ".report.html.1-1.part").open("xb") as busy:
        assert _mark(busy)
        Claim(tmp_path).release()
        assert (tmp_path / ".report.html.1-1.part").exists()
    assert [path for folder, parts in names.items() for path in map(folder.joinpath, parts) if path.exists()] == []
    assert all(path.exists() for path in mine)
    Claim(tmp_path).release()
    assert not (tmp_path / ".report.html.1-1.part").exists()


def test_a_new_folder_is_no_one_elses(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_folder(tmp_path / "runs", "name"), range(16)))
    assert sorted(path.name for path in made) == sorted(["name", *(f"name-{number}" for number in range(2, 17))])


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_leaves_its_folder_free(tmp_path: Path) -> None:
    with other_process(tmp_path) as process:
        process.kill()
    assert (tmp_path / HOLDER).exists()
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


# Folders of a new run.


@pytest.mark.parametrize("name", ["README.md", "video.mp4", "src"])
def test_a_folder_with_other_files_is_not_taken(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir() if name == "src" else (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=rf"The folder \. holds other files \({name}\).* such as runs/first"):
        streamt1.wrap(ToyPipeline(), observers=record_to("."))("a prompt")
    assert {path.name for path in tmp_path.iterdir()} == {name}


def test_hidden_files_and_an_empty_folder_are_no_reason(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("")
    streamt1.wrap(ToyPipeline(), observers=record_to(tmp_path))("a prompt")
    assert (tmp_path / "recipe.yaml").exists()


class Logging:
    """Writes into the run folder when a run starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @streamt1.hookimpl
    def streamt1_run_started(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "log.txt").write_text("started")


@pytest.mark.parametrize("first", [True, False])
def test_what_observers_of_the_run_write_there_is_no_reason_either(first: bool, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    logging, recording = {"logging": Logging(folder)}, record_to(folder)
    observers = {**logging, **recording} if first else {**recording, **logging}
    streamt1.wrap(ToyPipeline(), observers=observers)("a prompt")
    assert {"log.txt", "recipe.yaml", "journal.jsonl"} <= {path.name for path in folder.iterdir()}
