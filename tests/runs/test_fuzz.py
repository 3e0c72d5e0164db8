"""Mutated journals through report, replay and resume: a result or one of the package's own errors, in bounded time.

``FUZZ_EXAMPLES=10000 pytest tests/runs/test_fuzz.py`` tries more examples than the usual ones.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import streamt1_plugins as streamt1
from streamt1_plugins.errors import StreamT1Error
from streamt1_plugins.replay import regenerate
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.events import versions
from streamt1_plugins.runs.observers.folder import Folder
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.runs.report import render
from tests.runs.shared import Failing, run
from tests.toy import ToyPipeline

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
LONGEST = 60.0  # seconds of one example; most take a fifth of one

VERSIONS = versions()

Events = list[dict[str, Any]]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three chunks, interrupted after two."""
    folder = tmp_path_factory.mktemp("interrupted")
    observers = {"folder": Folder(str(folder)), "journal": Journal(str(folder))}
    with pytest.raises(KeyboardInterrupt):
        run({**observers, "stop": Failing(1, KeyboardInterrupt())}, "search.candidates=2", chunks=3)
    return folder


@pytest.fixture(autouse=True, scope="module")
def _fast() -> Any:
    """Neither the encoder nor the waiting for the disk is what is tried here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamt1_plugins.runs.observers.video.encode_video", lambda *_, **__: b"video")
        patch.setattr("streamt1_plugins.runs.observers.report.write_page", lambda _: None)
        patch.setattr("streamt1_plugins.runs.report.strips.StripKeeper.keep", lambda *_: None)
        patch.setattr("streamt1_plugins.runs.events.versions", VERSIONS.copy)
        patch.setattr("streamt1_plugins.resuming.versions", VERSIONS.copy)
        patch.setattr("os.fsync", lambda _: None)
        yield


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.sampled_from([0, -1, 1, 2, 5_000_000, 10**19, 2**63, 2**64, 1e308, -0.0, 0.5]),
    st.text(max_size=8),
    st.sampled_from(["", "000.00", "001.01", "999.99", "../x", "cpu", "cuda:0", "kept", "\x1b[31m", "\udce9", "NaN"]),
    st.lists(st.sampled_from(["000.00", "001.00", 1, None]), max_size=3),
    st.dictionaries(st.sampled_from(["short", "long", "bright", "raw", "name"]), st.integers() | st.none(), max_size=2),
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in plain data."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(each for key, value in inner for each in places(value, (*path, key)))]


def mutate(events: Events, data: st.DataObject) -> None:
    """Change, remove or add one value anywhere, or remove, repeat or move a line."""
    line = data.draw(st.integers(0, len(events) - 1), label="line")
    how = data.draw(st.sampled_from(["change"] * 3 + ["remove", "add", "drop", "repeat", "move"]), label="how")
    if how in ("drop", "repeat", "move"):
        event = events[line] if how == "repeat" else events.pop(line)
        if how != "drop":
            events.insert(data.draw(st.integers(0, len(events)), label="to"), json.loads(json.dumps(event)))
        return
    *above, last = data.draw(st.sampled_from(places(events[line])[1:]), label="place")
    section: Any = events[line]
    for step in above:
        section = section[step]
    if how == "change":
        section[last] = data.draw(VALUES, label="value")
    elif how == "remove":
        del section[last]
    elif isinstance(section, dict):
        section[data.draw(st.text(max_size=5), label="key")] = data.draw(VALUES, label="value")


def written(events: Events, sealed: bool) -> bytes:
    """The events as a journal; `sealed` with numbers and digests that fit, else with those they had."""
    lines, identity = [], ""
    for number, event in enumerate(events, 1):
        if sealed:
            event = {**event, "line": number}
            event["check"] = seal(event, identity)
            identity = identity or event["check"]
        lines.append(json.dumps(event).encode() + b"\n")
    return b"".join(lines)


def seal(event: dict[str, Any], identity: str) -> str:
    try:
        return journal.digest(event, identity)
    except (AttributeError, TypeError):  # a first line that no writer makes
        return "0" * 32


def wound(content: bytes, data: st.DataObject) -> bytes:
    """Change bytes: flip, cut, insert or repeat some."""
    at = data.draw(st.integers(0, len(content) - 1), label="byte")
    more = data.draw(st.binary(max_size=12) | st.sampled_from([b"\n", b"\0" * 40, b'\r\n{"event": "']), label="more")
    kinds = {"flip": content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :], "cut": content[:at]}
    kinds |= {"insert": content[:at] + more + content[at:], "repeat": content[:at] + content[max(0, at - 300) :]}
    return kinds[data.draw(st.sampled_from(sorted(kinds)), label="wound")]


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_a_mutated_journal_gives_a_result_or_one_of_our_errors(interrupted: Path, data: st.DataObject) -> None:
    events = [json.loads(line) for line in (interrupted / journal.JOURNAL).read_bytes().splitlines()]
    kind = data.draw(st.sampled_from(["sealed", "older", "as they were", "bytes"]), label="kind")
    if kind == "older":  # without digests
        events = [{k: v for k, v in event.items() if k not in ("line", "check", "checkpoint")} for event in events]
    for _ in range(0 if kind == "bytes" else data.draw(st.integers(1, 3), label="mutations")):
        if events:
            mutate(events, data)
    content = written(events, sealed=kind == "sealed")
    for _ in range(data.draw(st.integers(1, 2), label="wounds") if kind == "bytes" else 0):
        content = wound(content, data) if content else content
    folder = interrupted.with_name("mutated")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(interrupted, folder)
    (folder / journal.JOURNAL).write_bytes(content)
    begin = time.perf_counter()
    for work in WORK:
        with suppress(StreamT1Error):
            work(folder)
    assert time.perf_counter() - begin < LONGEST


WORK: list[Callable[[Path], object]] = [
    render,
    lambda folder: regenerate(folder, pipe=ToyPipeline()),
    lambda folder: streamt1.resume(folder, ToyPipeline()),
]
