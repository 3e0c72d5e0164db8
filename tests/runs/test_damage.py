"""Damaged run folders: resumed to the same tree and video, or refused with an error that names what is wrong."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from contextlib import nullcontext
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
    observers = {
        "folder": Folder(str(folder)),
        "journal": Journal(str(folder)),
        "stop": Failing(2, KeyboardInterrupt()),
    }
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
        inside = range(len(lines[count - 1])) if count > len(lines) - 2 else (0, len(lines[count - 1]) // 2)
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


def is_edited(folder: Path) -> bool:
    """Whether the first line can no longer be used for a video."""
    try:
        return RecordedRun.read(folder).edited
    except InputError:
        return True


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_flipped_bit_in_a_checkpoint_never_gives_another_video(folder: Path, whole: Any) -> None:
    chance = random.Random(0)
    for file in sorted((folder / STATE).iterdir()):
        content = file.read_bytes()
        for bit in [*chance.sample(range(8 * len(content)), 4), 8 * len(content) - 1]:
            copy = Path(shutil.copytree(folder, folder.with_name(f"{file.stem}-{bit}")))
            (copy / STATE / file.name).write_bytes(flipped(content, bit))
            check_resumed(copy, whole)


def is_recipe(folder: Path) -> bool:
    """Whether the recipe that a journal records is one."""
    try:
        return bool(RecordedRun.read(folder).recipe)
    except InputError:
        return False


def test_a_flipped_bit_in_a_journal_never_gives_another_video(folder: Path, whole: Any) -> None:
    chance, content = random.Random(1), (folder / journal.JOURNAL).read_bytes()
    for bit in chance.sample(range(8 * len(content)), 24):
        copy = Path(shutil.copytree(folder, folder.with_name(f"bit-{bit}")))
        (copy / journal.JOURNAL).write_bytes(flipped(content, bit))
        first = bit // 8 <= content.index(b"\n")
        if first and is_edited(copy):
            with pytest.raises(InputError, match="line"):
                check_resumed(copy, whole)
            continue
        # Settings of where a run is made are outside the digest, and may be no recipe any more.
        refused = pytest.raises(InputError, match="line 1: the recorded recipe")
        with refused if first and not is_recipe(copy) else nullcontext():
            check_resumed(copy, whole)


def mixed(lines: list[bytes]) -> bytes:
    """A line written into another one, as by two writers."""
    return b"".join([*lines[:4], lines[4][:50] + lines[5], lines[4][50:], *lines[6:]])


WOUNDS: dict[str, Callable[[list[bytes]], bytes]] = {
    "mixed": mixed,
    "torn": lambda lines: b"".join([*lines[:2], lines[2][:40] + b"\n", *lines[3:]]),
    "twice": lambda lines: b"".join([*lines[:6], lines[3], lines[5], *lines[6:]]),
    "another order": lambda lines: b"".join([lines[0], *lines[3:7], *lines[1:3], *lines[7:]]),
    "a line lost": lambda lines: b"".join([*lines[:8], *lines[9:]]),
    "zeros": lambda lines: b"".join([*lines[:3], bytes(512), *lines[3:5], bytes(512) + b"\n", *lines[5:], bytes(100)]),
    "CRLF": lambda lines: b"".join(lines).replace(b"\n", b"\r\n"),
    "BOM": lambda lines: b"\xef\xbb\xbf" + b"".join(lines),
    "blank lines": lambda lines: b"\n".join(lines),
    "not UTF-8": lambda lines: b"".join([*lines[:3], lines[3].replace(b"seconds", b"sec\xffnds"), *lines[4:]]),
    "garbage first": lambda lines: b"%PDF\n" + b"".join(lines),
    "another run's line": lambda lines: b"".join([*lines[:4], lines[4].replace(b"0.", b"0.1"), *lines[4:]]),
    "no event": lambda lines: b"".join([*lines[:4], b"[1]\n", b"17\n", *lines[4:]]),
    "not finite": lambda lines: b"".join(
        [*lines[:4], lines[4].replace(b'"score": ', b'"score": NaN,"x":'), *lines[5:]]
    ),
}


@pytest.mark.parametrize("wound", WOUNDS)
def test_what_is_whole_in_a_journal_is_used(
    folder: Path, whole: Any, wound: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / journal.JOURNAL).write_bytes(WOUNDS[wound](lines_of(folder)))
    recorded = RecordedRun.read(folder)
    harmless = wound in ("CRLF", "BOM", "blank lines", "another order", "zeros")
    assert (f"{journal.JOURNAL} is damaged" in caplog.text) is not harmless
    assert [note in recorded.summary()["notes"] for note in recorded.damage] == [True] * (not harmless)
    assert "not finished" in render(folder) or "stopped" in render(folder)
    if recorded.whole:
        winner = [node.id for node in recorded.winner]
        assert len(regenerate(folder, winner[-1], ToyPipeline())) == 3 * len(winner)
    check_resumed(folder, whole)
    again = RecordedRun.read(folder)
    assert again.whole == 4
    assert again.events[-1]["event"] == "finished"
    assert len(again.damage) <= len(recorded.damage)


def test_journals_without_digests_are_mended_too(folder: Path, whole: Any) -> None:
    """As version 0.2 wrote them, and as two of its processes mixed them."""
    events = [json.loads(line) for line in lines_of(folder)]
    old = [{k: v for k, v in event.items() if k not in ("line", "check", "checkpoint")} for event in events]
    lines = [f"{json.dumps(event)}\n".encode() for event in old]
    for wound in (mixed, WOUNDS["torn"], WOUNDS["twice"], WOUNDS["CRLF"], WOUNDS["zeros"]):
        copy = Path(shutil.copytree(folder, folder.with_name(wound.__name__ + str(len(wound(lines))))))
        (copy / journal.JOURNAL).write_bytes(wound(lines))
        render(copy)
        check_resumed(copy, whole)


@pytest.mark.parametrize("lost", ["head", "node", "all", "empty"])
def test_a_lost_checkpoint_is_made_again_from_seeds(
    folder: Path, whole: Any, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    if lost == "all":
        shutil.rmtree(folder / STATE)
    else:
        node = next(file for file in sorted((folder / STATE).iterdir()) if file.stem != HEAD)
        file = folder / STATE / f"{HEAD}.safetensors" if lost == "head" else node
        file.write_bytes(b"") if lost == "empty" else file.unlink()
    check_resumed(folder, whole)
    assert "The first 3 are made again from their seeds" in caplog.text


def test_a_checkpoint_that_seeds_do_not_lead_to_is_refused_with_a_way_out(folder: Path) -> None:
    def worse(events: list[dict[str, Any]]) -> None:
        next(event for event in reversed(events) if event["event"] == "chunk")["checkpoint"] = "0" * 64

    rewrite(folder, worse)
    with pytest.raises(InputError, match=r"cannot be resumed with the same result.*branch\(\".*\", \"002\.0"):
        streamt1.resume(folder, ToyPipeline())


def test_a_winner_whose_line_is_lost_is_replayed_as_far_as_it_is_whole(folder: Path) -> None:
    streamt1.resume(folder, ToyPipeline())
    winner = journal.tree_of(journal.read(folder)).winner
    lines = lines_of(folder)
    whole_video = regenerate(folder, pipe=ToyPipeline())
    kept = [line for line in lines if f'"id": "{winner[2]}"'.encode() not in line]
    (folder / journal.JOURNAL).write_bytes(b"".join(kept))
    assert journal.tree_of(journal.read(folder)).winner == winner[:2]
    assert torch.equal(regenerate(folder, pipe=ToyPipeline()), whole_video[:6])


@pytest.mark.parametrize(("field", "value"), [("prompt", "another"), ("seed", 7), ("call", {"chunks": 5})])
def test_a_first_line_that_leads_to_another_video_is_refused(folder: Path, field: str, value: Any) -> None:
    lines = lines_of(folder)
    start = {**json.loads(lines[0]), field: value}
    (folder / journal.JOURNAL).write_bytes(json.dumps(start).encode() + b"\n" + b"".join(lines[1:]))
    for work in (streamt1.resume, lambda folder, pipe: regenerate(folder, pipe=pipe)):
        with pytest.raises(InputError, match=r"first line of .* was changed after it was written"):
            work(folder, ToyPipeline())
    assert len(RecordedRun.read(folder).tree()) == 12


def test_where_a_run_is_made_may_be_edited(folder: Path, whole: Any) -> None:
    lines = lines_of(folder)
    start = json.loads(lines[0])
    start["recipe"]["observers"] = {"console": {}}
    start["versions"]["torch"] = "0.0"
    (folder / journal.JOURNAL).write_bytes(json.dumps(start).encode() + b"\n" + b"".join(lines[1:]))
    check_resumed(folder, whole)
