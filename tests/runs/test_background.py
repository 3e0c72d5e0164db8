"""What is left to the background: a run killed meanwhile loses nothing, and the record is the same to the last bit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from safetensors import safe_open

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.api.background import Background
from streamt1_plugins.api.run import Run
from streamt1_plugins.errors import PluginError
from streamt1_plugins.runs import checkpoint, journal
from streamt1_plugins.runs.checkpoint import HEAD, NEXT, STATE, load_checkpoint, load_unsettled
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.report import strips
from streamt1_plugins.runs.report.strips import StripKeeper
from tests.launching import without_times
from tests.runs.shared import Failing, recorded, run
from tests.toy import ToyPipeline

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Killing:
    """From chunk `at` on nothing reaches the disk any more; in the chunk after it the process is killed."""

    def __init__(self, at: int) -> None:
        self.at, self.is_stuck = at, False
        self._flush = checkpoint.flush

    def flush(self, path: Path) -> None:
        Event().wait() if self.is_stuck else self._flush(path)

    @hookimpl
    def streamt1_candidate_scored(self, run: Run, chunk: Any) -> None:
        if chunk.index == self.at:
            run.background.wait()
            self.is_stuck = True
        elif chunk.index > self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path, at: int) -> None:
    """A record whose process was killed after chunk `at` was selected, before anything of it was flushed."""
    child = os.fork()
    if child == 0:
        try:
            checkpoint.flush = (killing := Killing(at)).flush
            run({**record_to(folder), "killing": killing}, chunks=5)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def resumed_at(folder: Path) -> int:
    return next(event["chunk"] for event in journal.read(folder) if event["event"] == "resumed")


def check_resumes(folder: Path, chunk: int, full: Any) -> None:
    """The run resumes with this chunk, and ends as if it had never stopped."""
    video = streamt1.resume(folder, ToyPipeline())
    assert resumed_at(folder) == chunk
    assert torch.equal(video, torch.cat(full.last_run.beams[0].history.frames))
    assert without_times(journal.tree_of(journal.read(folder)).to_dict()) == without_times(full.tree.to_dict())
    assert not (folder / STATE / f"{NEXT}.safetensors").exists()


@needs_fork
@pytest.mark.parametrize("at", [0, 2])
def test_a_kill_before_the_flush_loses_no_chunk(tmp_path: Path, at: int) -> None:
    full = recorded(tmp_path / "full", chunks=5)
    killed(tmp_path / "cut", at)
    settled, newest = load_checkpoint(tmp_path / "cut"), load_unsettled(tmp_path / "cut")
    assert (settled.chunks if settled else 0, newest.chunks if newest else 0) == (at, at + 1)
    check_resumes(tmp_path / "cut", at + 1, full)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def newest_latents(state: Path) -> Path:
    return max(path for path in state.iterdir() if path.stem not in (HEAD, NEXT))


@needs_fork
@pytest.mark.parametrize(
    "damage",
    [
        lambda state: empty(state / f"{NEXT}.safetensors"),
        lambda state: (state / f"{NEXT}.safetensors").unlink(),
        lambda state: empty(newest_latents(state)),
        lambda state: newest_latents(state).unlink(),
    ],
    ids=["empty head", "lost head", "empty latents", "lost latents"],
)
def test_a_power_cut_before_the_flush_leaves_the_checkpoint_before(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    full = recorded(tmp_path / "full", chunks=5)
    killed(tmp_path / "cut", 2)
    damage(tmp_path / "cut" / STATE)
    check_resumes(tmp_path / "cut", 2, full)


@needs_fork
def test_a_power_cut_that_loses_the_chunks_line_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    full = recorded(tmp_path / "full", chunks=5)
    killed(tmp_path / "cut", 2)
    path = tmp_path / "cut" / journal.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    cut = next(number for number, line in enumerate(lines) if json.loads(line).get("kept") and b'"chunk": 2' in line)
    path.write_bytes(b"".join(lines[:cut]))
    check_resumes(tmp_path / "cut", 2, full)


def content(folder: Path) -> dict[str, Any]:
    """Every file of a run folder; of those with times, what else is in them."""
    found: dict[str, Any] = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and each.suffix != ".html"):
        name, data = str(path.relative_to(folder)), path.read_bytes()
        if path.suffix == ".json":
            found[name] = without_times(json.loads(data))
        elif path.suffix == ".jsonl":
            lines = [without_times(json.loads(line)) for line in data.splitlines()]
            found[name] = [{key: value for key, value in line.items() if key != "check"} for line in lines]
        elif path.suffix == ".safetensors":  # whose header has its names in any order
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key).numpy().tobytes() for key in file.keys()}  # noqa: SIM118
                found[name] = (file.metadata(), tensors)
        else:
            found[name] = data
    return found


def test_the_record_is_the_same_with_and_without_the_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(tmp_path / "beside", "search.candidates=3", chunks=5)
    beside, jobs = content(tmp_path / "beside"), list[str]()

    def at_once(_: Background, what: str, work: Callable[[], None], *, urgent: bool = False) -> None:
        jobs.append(what)
        work()

    monkeypatch.setattr(Background, "submit", at_once)
    recorded(tmp_path / "at-once", "search.candidates=3", chunks=5)
    pictures = [name for name in beside if name.startswith(strips.FOLDER)]
    assert len(jobs) >= len(pictures) + 5 > 30
    assert beside == content(tmp_path / "at-once")


def test_an_interrupted_run_has_all_pictures_and_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run({**record_to(tmp_path), "stop": Failing(1, KeyboardInterrupt())}, chunks=4)
    scored = {event["id"] for event in journal.read(tmp_path) if event["event"] == "candidate"}
    assert strips.find(tmp_path).keys() == scored
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    assert saved.chunks == 2


def test_a_job_that_breaks_ends_the_run_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no luck")

    monkeypatch.setattr(StripKeeper, "keep", broken)
    with pytest.raises(PluginError, match=r"Drawing the film strip of 000\.00 failed: ZeroDivisionError: no luck"):
        recorded(tmp_path)
    assert journal.read(tmp_path)[-1]["event"] == "finished"


def test_nothing_recorded_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Background, "submit", lambda *_, **__: pytest.fail("a job without an observer"))
    streamt1.wrap(ToyPipeline())("a prompt")


@needs_fork
def test_what_a_killed_process_wrote_is_flushed_by_the_one_that_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path, 2)
    flushed, real = list[str](), checkpoint.flush

    def flush(path: Path) -> None:
        flushed.append(path.name)
        real(path)

    monkeypatch.setattr(checkpoint, "flush", flush)
    streamt1.resume(tmp_path, ToyPipeline())
    before = flushed[: flushed.index(f"{NEXT}.safetensors")]
    assert any(name.startswith("002.") for name in before), f"chunk 2 was never flushed: {before}"
