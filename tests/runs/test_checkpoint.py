"""Checkpoints: what they hold, and what is wrong with damaged ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.checkpoint import HEAD, STATE, CheckpointFiles, load_checkpoint, load_latents
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun
from tests.runs.shared import Failing, recorded, rewrite, run
from tests.toy import ToyAdapter, ToyPipeline, ToySession


def test_old_state_is_pruned_to_what_the_survivors_need(tmp_path: Path) -> None:
    pipe = recorded(tmp_path, "search.top_k=2", chunks=8)
    needed = {node.id for beam in pipe.last_run.beams for node in beam.path}
    assert {path.stem for path in (tmp_path / STATE).iterdir()} == needed | {"head"}
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    assert (saved.chunks, len(saved.beams)) == (8, 2)


def remember(real: Any, made: list[ToySession]) -> Any:
    def opened(*args: Any) -> ToySession:
        made.append(real(*args))
        return made[-1]

    return opened


def test_the_pipeline_is_given_back_when_a_run_cannot_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path)
    next(path for path in (tmp_path / STATE).iterdir() if path.stem != "head").write_bytes(b"torn")
    rewrite(tmp_path, lambda events: events[-2].update(checkpoint="0" * 64))
    sessions: list[ToySession] = []
    monkeypatch.setattr(ToyAdapter, "open", remember(ToyAdapter.open, sessions))
    with pytest.raises(InputError, match="cannot be resumed with the same result"):
        streamt1.resume(tmp_path, ToyPipeline())
    assert [session.closed for session in sessions] == [True]


def test_only_checkpoints_are_deleted(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run({**record_to(tmp_path), "stop": Failing(1, KeyboardInterrupt())}, "search.top_k=2", chunks=8)
    mine = [tmp_path / STATE / name for name in ("note.txt", "best.safetensors", "001.02.safetensors.bak", "sub")]
    for path in mine[:-1]:
        path.write_text("mine")
    mine[-1].mkdir()
    streamt1.resume(tmp_path, ToyPipeline())
    assert all(path.exists() for path in mine)


def test_nothing_behind_a_link_is_read_or_deleted(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    recorded(folder)
    (folder / STATE).rename(elsewhere)
    (elsewhere / "009.00.safetensors").write_text("of another run")
    before = sorted(elsewhere.iterdir())
    (folder / STATE).symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(InputError, match="state is a symbolic link"):
        streamt1.resume(folder, ToyPipeline())
    assert sorted(elsewhere.iterdir()) == before


def test_a_linked_checkpoint_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recorded(folder)
    file = next(path for path in (folder / STATE).iterdir() if path.stem != "head")
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    saved = load_checkpoint(folder)
    assert saved is not None
    with pytest.raises(InputError, match="is a symbolic link"):
        load_latents(folder, saved, RecordedRun.read(folder).tree())


def test_the_digest_is_of_what_the_files_hold(tmp_path: Path) -> None:
    pipe = recorded(tmp_path, chunks=3)
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    assert saved.digest == next(e for e in reversed(journal.read(tmp_path)) if e["event"] == "chunk")["checkpoint"]
    again = CheckpointFiles(tmp_path / "other").of(pipe.last_run.beams, pipe.last_run.call["generator"])
    assert set(again.files) == set(saved.files)
    assert again.files == saved.files
    assert replace(saved, chunks=2).digest != saved.digest


def test_a_folder_without_a_committed_chunk_has_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    recorded(tmp_path)
    (tmp_path / STATE / f"{HEAD}.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"head\.safetensors cannot be read"):
        load_checkpoint(tmp_path)
