"""The journal of a run: one JSON line per event, only ever appended. Reading it gives the tree back.

Events are plain dictionaries; docs/tree.md lists their fields. Every line has `event` and `time` (UTC, ISO 8601).
A line that was not finished, because the process was killed, is ignored by readers and cut off by the next writer.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.tree import Tree, node_of
from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamt1_plugins.api.types import Fate

JOURNAL = "journal.jsonl"
SCHEMA = 1

Event = dict[str, Any]


def read(folder: str | Path) -> list[Event]:
    """The events of the run in `folder`, oldest first.

    Raises `InputError` where there is no journal, where it is damaged before its last line, or where a newer version
    of this package wrote it.
    """
    path = Path(folder) / JOURNAL
    if not path.is_file():
        raise InputError(f"{folder} holds no run: it has no {JOURNAL}.")
    whole = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn, or nothing
    events = [_event(line, f"{path}, line {number},") for number, line in enumerate(whole, 1)]
    if not events or events[0].get("event") != "started":
        raise InputError(f"{path} is not a journal: its first line is not a `started` event.")
    schema = events[0].get("schema")
    if schema != SCHEMA:
        raise InputError(f"{path} has schema {schema}; this version of streamt1-plugins reads schema {SCHEMA}.")
    return events


def _event(line: bytes, where: str) -> Event:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}.") from error
    if not isinstance(event, dict):
        raise InputError(f"{where} is not an event.")
    return event


def tree_of(events: Sequence[Event], *, chunks: int | None = None) -> Tree:
    """The tree that these events record, equal to the run's own; with `chunks`, as it was after that many chunks."""
    tree, rewards = Tree(), events[0]["recipe"]["rewards"]
    weights: dict[tuple[str, str], float] = {
        (horizon, name): reward["weight"] for horizon in HORIZONS for name, reward in rewards[horizon].items()
    }
    for event in events:
        tree.notes = list(event.get("notes", tree.notes))
        if event["event"] == "candidate":
            tree.add(node_of(event, weights))
        elif event["event"] == "chunk":
            _settle(tree, event)
        elif event["event"] == "resumed":
            _cut(tree, event["chunk"])
        elif event["event"] == "finished":
            tree.winner = tuple(event["winner"])
            tree.final = {name: math.nan if score is None else score for name, score in event["final"].items()}
    if chunks is not None:
        _cut(tree, chunks)
    return tree


def _settle(tree: Tree, event: Event) -> None:
    """Add the fates: a chunk's candidates were written when they were judged, before the selection."""
    fates: tuple[Fate, ...] = ("kept", "pruned", "invalid")
    for fate in fates:
        for place, name in enumerate(event[fate]):
            tree.add(replace(tree.nodes[name], fate=fate, rank=place if fate == "kept" else None))


def _cut(tree: Tree, chunks: int) -> None:
    """Forget everything from chunk `chunks` on: it is searched again."""
    tree.nodes = {name: node for name, node in tree.nodes.items() if node.chunk < chunks}
    tree.winner, tree.final = (), {}


def chunks_done(events: Iterable[Event]) -> int:
    """How many chunks were committed when the journal ends."""
    done = 0
    for event in events:
        if event["event"] == "chunk":
            done = event["chunk"] + 1
        elif event["event"] == "resumed":
            done = event["chunk"]
    return done


class JournalFile:
    """The writing end. A line is in the file when `add` returns, and on the disk with ``sync=True``."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending; a torn last line is cut off."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._end = path.read_bytes().rfind(b"\n") + 1
        os.ftruncate(self._file, self._end)
        self._pending = b""

    def add(self, event: Event, *, sync: bool = False) -> None:
        """Append one event. Raises `OSError` when it cannot be written; it is then written before the next one."""
        line = json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n"
        self._pending += line.encode("utf-8", "surrogatepass")
        done = 0
        try:
            while done < len(self._pending):
                done += os.pwrite(self._file, self._pending[done:], self._end + done)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end, self._pending = self._end + done, b""
        if sync:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
