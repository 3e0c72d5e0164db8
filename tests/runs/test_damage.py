"""Damaged run folders: resumed to the same tree and video, or refused with an error that names what is wrong."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from streamt1_plugins.replay import regenerate
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.checkpoint import HEAD, STATE
from streamt1_plugins.runs.observers.folder import Folder
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.runs.report import render
from tests.runs.shared import Failing, rewrite
from tests.toy import ToyPipeline

SETTINGS = ("search.candidates=2", "search.top_k=2")
CALL: dict[str, Any] = {"prompt": "a prompt", "chunks": 4}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the encoder nor the waiting for the disk matters here; they are most of a resumed run's time."""
    monkeypatch.setattr("streamt1_plugins.runs.observers.video.encode_video", lambda *_, **__: b"video")
    monkeypatch.setattr("streamt1_plugins.runs.observers.report.write_page", lambda _: None)
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, dict[str, Any]]:
    """(a run folder that was interrupted after three of four chunks, the video and the tree without interruption)."""
    folder = tmp_path_factory.mktemp("whole")
    pipe = streamt1.wrap(ToyPipeline(), overrides=SETTINGS)
    video = pipe(**CALL)
    observers = {"folder": Folder(str(folder)), "journal": Journal(str(folder)), "stop": Failing(2, KeyboardInterrupt())}
    with pytest.raises(KeyboardInterrupt):
        streamt1.wrap(ToyPipeline(), overrides=SETTINGS, observers=observers)(**CALL)
    return folder, video, plain(pipe.tree.to_dict())


@pytest.fixture
def folder(whole: tuple[Path, torch.Tensor, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of that folder, to be damaged."""
    return Path(shutil.copytree(whole[0], tmp_path / "run"))


def plain(tree: dict[str, Any]) -> dict[str, Any]:
    """Without times."""
    return {**tree, "nodes": [{**node, "seconds": None} for node in tree["nodes"]]}


def check_resumed(folder: Path, whole: tuple[Path, torch.Tensor, dict[str, Any]]) -> None:
    """The folder is resumed to the uninterrupted tree and video, also as its journal has them afterwards."""
    video = streamt1.resume(folder, ToyPipeline())
    assert torch.equal(video, whole[1])
    assert plain(journal.tree_of(journal.read(folder)).to_dict()) == whole[2]


def lines_of(folder: Path) -> list[bytes]:
    return (folder / journal.JOURNAL).read_bytes().splitlines(keepends=True)


def test_a_journal_cut_at_any_byte_of_its_last_lines_resumes_to_the_same_video(folder: Path, whole: Any) -> None:
    lines = lines_of(folder)
    for count in range(len(lines), 0, -1):
        inside = range(len(lines[count - 1])) if count > len(lines) - 3 else (0, len(lines[count - 1]) // 2)
        kept = b"".join(lines[: count - 1])
        (folder / journal.JOURNAL).write_bytes(kept)
        expected = journal.read(folder) if count > 1 else None
        # A resumed run depends on what is read: the same for all cuts inside a line, with nothing of that line.
        for cut in inside:
            (folder / journal.JOURNAL).write_bytes(kept + lines[count - 1][:cut])
            if expected is not None:
                assert journal.read(folder) == expected
        copy = Path(shutil.copytree(folder, folder.with_name(f"cut-{count}")))
        if expected is None:
            with pytest.raises(InputError, match="not a journal"):
                streamt1.resume(copy, ToyPipeline())
        else:
            check_resumed(copy, whole)


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_flipped_bit_in_a_checkpoint_never_gives_another_video(folder: Path, whole: Any) -> None:
    chance = random.Random(0)
    for file in sorted((folder / STATE).iterdir()):
        content = file.read_bytes()
        for bit in [*chance.sample(range(8 * len(content)), 8), 8 * len(content) - 1]:
            copy = Path(shutil.copytree(folder, folder.with_name(f"{file.stem}-{bit}")))
            (copy / STATE / file.name).write_bytes(flipped(content, bit))
            check_resumed(copy, whole)


def test_a_flipped_bit_in_a_journal_never_gives_another_video(folder: Path, whole: Any) -> None:
    chance, content = random.Random(1), (folder / journal.JOURNAL).read_bytes()
    for bit in chance.sample(range(8 * len(content)), 40):
        copy = Path(shutil.copytree(folder, folder.with_name(f"bit-{bit}")))
        (copy / journal.JOURNAL).write_bytes(flipped(content, bit))
        try:
            check_resumed(copy, whole)
        except InputError as error:
            assert "line 1" in str(error) or "first line" in str(error)
        render_or_refuse(copy)


def render_or_refuse(folder: Path) -> None:
    try:
        render(folder)
    except InputError as error:
        assert journal.JOURNAL in str(error)
