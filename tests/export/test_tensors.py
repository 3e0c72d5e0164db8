"""Latents and frames of recorded candidates, made again from their seeds."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import streamt1_plugins as streamt1
from streamt1_plugins.export.groups import groups
from streamt1_plugins.export.tensors import TensorWriter, file_of
from streamt1_plugins.runs.checkpoint import load_checkpoint, load_latents
from streamt1_plugins.runs.recorded import RecordedRun
from tests.export.runs import WIDE, recorded
from tests.toy import ToyPipeline, ToySession


class Seen:
    """Keeps what every candidate held while the run was made."""

    def __init__(self) -> None:
        self.latents: dict[str, torch.Tensor] = {}
        self.frames: dict[str, torch.Tensor] = {}

    @streamt1.hookimpl
    def streamt1_candidate_scored(self, candidate: streamt1.Candidate) -> None:
        self.latents[candidate.id], self.frames[candidate.id] = candidate.latents, candidate.decoded.frames


@pytest.mark.parametrize("recipe", ["beam", "stream-t1", "stream-t1-paper"])
def test_candidates_come_back_bit_by_bit(tmp_path: Path, recipe: str) -> None:
    seen = Seen()
    observers = {**streamt1.record_to(tmp_path / "run"), "seen": seen}
    streamt1.load("toy", recipe, overrides=WIDE, observers=observers)("a prompt", chunks=3)
    run = RecordedRun.read(tmp_path / "run")
    TensorWriter("latents", {}).write(run, list(run.tree()), tmp_path / "latents")
    TensorWriter("frames", {}).write(run, list(run.tree()), tmp_path / "frames")
    assert {each.name for each in (tmp_path / "latents").iterdir()} == {file_of(chunk) for chunk in range(3)}
    for chunk in range(3):
        latents, frames = (load_file(tmp_path / kind / file_of(chunk)) for kind in ("latents", "frames"))
        assert set(latents) == set(frames) == {node.id for node in run.tree() if node.chunk == chunk}
        for name, each in latents.items():
            assert torch.equal(each, seen.latents[name]), name
            assert torch.equal(frames[name], (seen.frames[name].clamp(0, 1) * 255).round().to(torch.uint8)), name


def test_only_what_is_needed_is_made_and_only_parents_are_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(tmp_path / "run")
    run = RecordedRun.read(tmp_path / "run")
    made: dict[str, int] = {"generate": 0, "commit": 0}

    def counting(name: str) -> None:
        real = getattr(ToySession, name)

        def counted(self: ToySession, *args: object) -> object:
            made[name] += 1
            return real(self, *args)

        monkeypatch.setattr(ToySession, name, counted)

    counting("generate")
    counting("commit")
    group = list(groups(run.tree()))[-1]
    assert group.chunk == 2
    TensorWriter("latents", {}).write(run, [group.best, group.worst], tmp_path / "out")
    assert made == {"generate": 4, "commit": 2}
    assert set(load_file(tmp_path / "out" / file_of(2))) == {group.best.id, group.worst.id}
    assert set(load_file(tmp_path / "out" / file_of(0))) == {group.history[0].id}


def test_the_model_is_loaded_once_for_runs_of_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        recorded(tmp_path / name)
    loaded: list[object] = []
    real = streamt1.pipeline.load
    monkeypatch.setattr(streamt1.pipeline, "load", lambda *args, **more: loaded.append(1) or real(*args, **more))
    writer = TensorWriter("latents", {})
    for name in ("one", "two"):
        run = RecordedRun.read(tmp_path / name)
        writer.write(run, list(run.tree()), tmp_path / "out" / name)
    assert len(loaded) == 1


def test_a_pipeline_of_the_caller_is_used(tmp_path: Path) -> None:
    streamt1.wrap(ToyPipeline(), "beam", overrides=WIDE, observers=streamt1.record_to(tmp_path / "run"))("a prompt")
    run = RecordedRun.read(tmp_path / "run")
    with pytest.raises(streamt1.InputError, match="made with a pipeline loaded elsewhere"):
        TensorWriter("latents", {}).write(run, list(run.tree()), tmp_path / "out")
    TensorWriter("latents", {"pipe": ToyPipeline()}).write(run, list(run.tree()), tmp_path / "out")
    assert (tmp_path / "out" / file_of(3)).exists()


def test_recorded_latents_that_come_back_otherwise_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorded(tmp_path / "run")
    run = RecordedRun.read(tmp_path / "run")
    saved = load_checkpoint(run.folder)
    assert saved
    held = len(load_latents(run.folder, saved, run.tree()))
    with caplog.at_level(logging.WARNING, "streamt1"):
        TensorWriter("latents", {}).write(run, list(run.tree()), tmp_path / "same")
    assert "other values" not in caplog.text
    real = ToySession.generate
    monkeypatch.setattr(ToySession, "generate", lambda self, *args: real(self, *args) + 1e-3)
    with caplog.at_level(logging.WARNING, "streamt1"):
        TensorWriter("latents", {}).write(run, list(run.tree()), tmp_path / "other")
    assert f"{held} of {held} recorded latents were made again with other values" in caplog.text
