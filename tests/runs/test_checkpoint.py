"""Checkpoints: what they hold, and what is wrong with damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from streamt1_plugins.runs.checkpoint import HEAD, STATE, load_checkpoint
from tests.runs.shared import recorded
from tests.toy import ToyPipeline


def test_old_state_is_pruned_to_what_the_survivors_need(tmp_path: Path) -> None:
    pipe = recorded(tmp_path, "search.top_k=2", chunks=8)
    needed = {node.id for beam in pipe.last_run.beams for node in beam.path}
    assert {path.stem for path in (tmp_path / STATE).iterdir()} == needed | {"head"}
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    assert (saved.chunks, len(saved.beams)) == (8, 2)


def test_the_pipeline_is_given_back_when_a_state_is_damaged(tmp_path: Path) -> None:
    recorded(tmp_path)
    next(path for path in (tmp_path / STATE).iterdir() if path.stem != "head").write_bytes(b"torn")
    with pytest.raises(InputError, match="checkpoint is not complete"):
        streamt1.resume(tmp_path, ToyPipeline())


def test_a_folder_without_a_committed_chunk_has_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    recorded(tmp_path)
    (tmp_path / STATE / f"{HEAD}.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"head\.safetensors cannot be read"):
        load_checkpoint(tmp_path)
