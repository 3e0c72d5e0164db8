"""The journal of a run: one JSON line per event, only ever appended. Reading it gives the tree back.

Events are plain dictionaries; docs/tree.md lists their fields, `runs.lines` checks their types. A line carries its
number and a digest, so that a reader recognizes what was torn, mixed or changed, and uses the rest. A last line without
its end, because the process was killed, is ignored by readers and cut off by the next writer.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.tree import Tree, node_of
from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.errors import InputError
from streamt1_plugins.runs.files import JOURNAL as JOURNAL  # its readers look for it here
from streamt1_plugins.runs.files import check_plain, read_file
from streamt1_plugins.runs.lines import typed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from streamt1_plugins.api.types import Fate, Node

SCHEMA = 1
MAX_BYTES, MAX_LINE, MAX_NUMBER = 2**30, 2**24, 2**40
MIXED = 100
"""How many events are looked for in a line that is not one."""
LISTED = 10
"""How many damaged lines a note lists."""

Event = dict[str, Any]

_FREE = {
    "started": ("time", "device", "device_name", "versions", "recipe_name", "line", "check"),
    "recipe": ("description", "model", "observers", "parallel", "placement"),
    "reward": ("where", "device", "offload", "unload"),
}
"""What the digest of the first line leaves out, so that it may be edited: where a run is made, and not what is made."""


@dataclass
class Lines:
    """The events of a journal, oldest first, and what reading it found.

    `dropped`: lines that were left out, with the reason. `edited`: whether the first line was changed in what decides
    the video. `identity`: what the digests of the other lines start from. `last`: the highest number of a line. `end`:
    where the last whole line ends, in bytes.
    """

    events: list[Event] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    edited: bool = False
    identity: str = ""
    last: int = 0
    end: int = 0

    @property
    def damage(self) -> list[str]:
        """A note on the lines that were left out; none where the journal is whole."""
        if not self.dropped:
            return []
        more = len(self.dropped) - LISTED
        listed = ", ".join(self.dropped[:LISTED]) + (f" and {more} more" if more > 0 else "")
        return [f"Some of {JOURNAL} is damaged and was left out: {listed}."]


def read(folder: str | Path) -> list[Event]:
    """The events of the run in `folder`, oldest first. Raises as `read_lines` does."""
    return read_lines(folder).events


def read_lines(folder: str | Path) -> Lines:
    """The whole lines of the journal in `folder`; what is torn, mixed or damaged is left out and listed.

    Raises `InputError` where there is no journal, where its first line is lost, where a field has a wrong type or
    value, and where a newer version of this package wrote it.
    """
    path = Path(folder) / JOURNAL
    check_plain(path)
    if not path.exists():
        raise InputError(f"{folder} holds no run: it has no {JOURNAL}.")
    return _lines(path, read_file(path, MAX_BYTES))


def _lines(path: Path, content: bytes) -> Lines:
    found = Lines(end=content.rfind(b"\n") + 1)
    numbered = [
        (number, event)
        for number, line in enumerate(content[: found.end].split(b"\n")[:-1], 1)
        for event in _events_in(line, f"line {number}", found)
    ]
    start = next((each for each in numbered if each[1].get("event") == "started"), None)
    if start is None:
        raise InputError(
            f"{path} is not a journal: its first line, the `started` event with the recipe, prompt and seed, is lost. "
            "Other files of the folder may still be of use: recipe.yaml starts the same run again."
        )
    numbered.remove(start)
    found.last = start[0]
    _read_start(path, *start, [event for _, event in numbered], found)
    _read_others(path, numbered, found)
    return found


def _events_in(line: bytes, where: str, found: Lines) -> list[Event]:
    """The event of a line, or the events that are whole in a line that is not one."""
    line = line.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\0")  # of editors, and of disks after a power cut
    if not line:
        return []
    try:
        event = _JSON.decode(line[:MAX_LINE].decode("utf-8", "surrogatepass"))
        if isinstance(event, dict):
            return [event]
    except (ValueError, RecursionError):
        pass
    whole = list(_mixed_in(line[:MAX_LINE].decode("utf-8", "replace")))
    found.dropped.append(f"{where} ({'mixed' if whole else 'torn'})")
    return whole


def _mixed_in(text: str) -> Iterator[Event]:
    """The whole events inside a line that several writers have made, or a crash."""
    at = 0
    for _ in range(MIXED):
        at = text.find('{"event": "', at)
        if at < 0:
            return
        try:
            event, end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if "\N{REPLACEMENT CHARACTER}" not in text[at:end]:
            yield event
        at = end


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse)


def _read_start(path: Path, number: int, event: Event, others: Iterable[Event], found: Lines) -> None:
    """Check the first line; where it was changed, find what the digests of the others start from."""
    if event.get("schema") != SCHEMA:
        schema = str(event.get("schema"))[:20]
        raise InputError(f"{path} has schema {schema!r}; this version of streamt1-plugins reads schema {SCHEMA}.")
    found.events += filter(None, [typed(event, f"{path}, line {number}")])
    written = event.get("check")
    if isinstance(written, str):
        found.identity = now = digest(event)
        if now != written and not any(_is_whole(each, now) for each in others):
            found.edited, found.identity = True, written


def _read_others(path: Path, numbered: Sequence[tuple[int, Event]], found: Lines) -> None:
    """Check the other lines, and bring those that carry numbers into their order."""
    kept: list[tuple[int | None, Event]] = []
    seen: dict[int | str, int] = {}
    for place, event in numbered:
        problem, name = _problem(event, found.identity)
        if problem is None and name in seen:
            problem = f"as line {seen[name]}"
        if problem is not None:
            found.dropped.append(f"line {place} ({problem})")
            continue
        seen[name] = place
        found.last = max(found.last, name if isinstance(name, int) else place)
        fields = typed(event, f"{path}, line {place}", chunks=found.events[0]["chunks"])
        if fields is not None:
            kept.append((name if isinstance(name, int) else None, fields))
    ordered = iter(sorted((each for each in kept if each[0] is not None), key=lambda each: each[0] or 0))
    found.events += [next(ordered)[1] if number is not None else event for number, event in kept]
    numbers = sorted(name for name in seen if isinstance(name, int))
    lost = sum(after - before - 1 for before, after in pairwise(numbers)) - len(found.dropped)
    if lost > 0:
        found.dropped.append(f"{lost} that {'is' if lost == 1 else 'are'} missing")


def _problem(event: Event, identity: str) -> tuple[str | None, int | str]:
    """(why an event is left out, None where it is whole; what no other event has: its number, or its digest)."""
    if event.get("event") == "started":
        return "a second start", ""
    if "check" not in event:  # of an older version
        return None, digest(event)
    return None if _is_whole(event, identity) else "changed after it was written", _number(event)


def _number(event: Event) -> int:
    line = event.get("line")
    return line if isinstance(line, int) and 0 < line < MAX_NUMBER else 0


def _is_whole(event: Event, identity: str) -> bool:
    return _number(event) > 0 and event.get("check") == digest(event, identity)


def digest(event: Event, identity: str = "") -> str:
    """The digest of an event, whatever the order of its fields; `identity`: the digest of the run's first line."""
    content = {name: value for name, value in event.items() if name != "check"}
    if event.get("event") == "started":
        content = _without(event, _FREE["started"])
        content["recipe"] = decisive(event.get("recipe", {}))
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        return ""
    return hashlib.sha256(f"{identity}{text}".encode()).hexdigest()[:32]


def decisive(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a recipe's data that decides the video, whatever it is made on."""
    found = _without(recipe, _FREE["recipe"])
    rewards = recipe.get("rewards", {})
    named = {
        horizon: {name: _without(reward, _FREE["reward"]) for name, reward in rewards.get(horizon, {}).items()}
        for horizon in HORIZONS
    }
    return {**found, "rewards": {**rewards, **named}}


def _without(data: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in names}


@dataclass
class _Record:
    """What the events of a run leave: its candidates by id, its committed chunks by index, and its end.

    `returns`: how often the search went back, and `abandoned` what was left behind: by id the line, the rank of a
    survivor, and the place of the return in the list. `ages`: how many returns were before a candidate.
    """

    candidates: dict[str, Event] = field(default_factory=dict)
    chunks: dict[int, Event] = field(default_factory=dict)
    end: Event | None = None
    returns: list[Event] = field(default_factory=list)
    abandoned: dict[str, tuple[Event, int | None, int]] = field(default_factory=dict)
    ages: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Iterable[Event], chunks: int | None = None) -> _Record:
        """The record that `events` leave; with `chunks`, as it was after that many chunks."""
        record = cls()
        for event in events:
            if event["event"] == "candidate":
                record.candidates[event["id"]] = event
                record.ages[event["id"]] = len(record.returns)
            elif event["event"] == "chunk":
                record.chunks[event["chunk"]] = event
            elif event["event"] == "finished":
                record.end = event
            elif event["event"] == "returned":
                record._return(event)
            elif event["event"] == "resumed":
                record._cut(event["chunk"])
        if chunks is not None:
            record._cut(chunks)
        return record

    def _return(self, event: Event) -> None:
        """Leave everything from the chunk on behind that the search went back to."""
        ranks = {name: rank for line in self.chunks.values() for rank, name in enumerate(line["kept"])}
        for name in [name for name, each in self.candidates.items() if each["chunk"] >= event["chunk"]]:
            each = self.candidates.pop(name)
            self.abandoned[name] = each, ranks.get(name, each["rank"]), len(self.returns)
        self.chunks = {index: each for index, each in self.chunks.items() if index < event["chunk"]}
        self.returns.append(event)

    def _cut(self, chunks: int) -> None:
        """Forget everything from chunk `chunks` on: it is searched again, with the returns to later chunks."""
        while self.returns and self.returns[-1]["chunk"] > chunks:
            self.returns.pop()
        self.abandoned = {name: each for name, each in self.abandoned.items() if each[2] < len(self.returns)}
        self.candidates = {name: each for name, each in self.candidates.items() if each["chunk"] < chunks}
        self.chunks = {index: each for index, each in self.chunks.items() if index < chunks}
        self.end = None

    def in_order(self) -> list[Event]:
        """The lines of all candidates in the order they were judged, as far as damage has left that."""
        every = [*(each for each, _, _ in self.abandoned.values()), *self.candidates.values()]
        return sorted(every, key=lambda each: (self.ages[each["id"]], each["chunk"]))

    def notes(self) -> list[str]:
        """The notes of the run when its last chunk was committed, or when it went back after that."""
        lines = [*self.chunks.values(), *self.returns]
        done = max(self.chunks, default=-1) + 1
        newest = lines[-1:] if self.returns and self.returns[-1]["chunk"] >= done else list(self.chunks.values())
        found: list[str] = []
        for line in newest:
            found = list(line.get("notes", found))
        return found

    def whole(self) -> int:
        """How many chunks are whole, from the first one on: with all their candidates, which continue survivors."""
        done, parents = 0, {None}
        while done in self.chunks:
            line = self.chunks[done]
            made = [self.candidates.get(name) for fate in FATES for name in line[fate]]
            if not all(each is not None and each["parent"] in parents for each in made) or (made and not line["kept"]):
                break
            parents = set(line["kept"]) if made else parents
            done += 1
        return done


FATES: tuple[Fate, ...] = ("kept", "pruned", "invalid")


def tree_of(events: Sequence[Event], *, chunks: int | None = None) -> Tree:
    """The tree that these events record, equal to the run's own; with `chunks`, as it was after that many chunks.

    Of a damaged journal, it has the candidates whose line, and whose parents' lines, are whole.
    """
    record, rewards = _Record.of(events, chunks), events[0]["recipe"]["rewards"]
    tree = Tree(picked=events[0].get("picked"))
    weights: dict[tuple[str, str], float] = {
        (horizon, name): reward["weight"] for horizon in HORIZONS for name, reward in rewards[horizon].items()
    }
    fates = {
        name: (fate, place)
        for line in record.chunks.values()
        for fate in FATES
        for place, name in enumerate(line[fate])
    }
    for event in record.in_order():
        if event["parent"] is None or event["parent"] in tree.nodes:
            left = record.abandoned.get(event["id"])
            node = node_of(event, weights)
            tree.add(replace(node, fate="abandoned", rank=left[1]) if left else _settled(node, fates))
    tree.returns = [(event["judged"], event["chunk"]) for event in record.returns]
    for event in events:
        tree.notes = list(event.get("notes", tree.notes))
    if chunks is not None:
        tree.notes = record.notes()
    if record.end is not None:
        tree.winner = tuple(_path(record.end["winner"], tree))
        final = {name: math.nan if score is None else score for name, score in record.end["final"].items()}
        tree.final = {name: score for name, score in final.items() if name in tree.nodes}
    return tree


def _settled(node: Node, fates: Mapping[str, tuple[Fate, int]]) -> Node:
    """The node with its fate: candidates are written when they are judged, before the selection."""
    if node.fate == "abandoned":  # by the run that a branched run continues
        return node
    fate, place = fates.get(node.id, (node.fate, node.rank or 0))
    return replace(node, fate=fate, rank=place if fate == "kept" else None)


def _path(names: Sequence[str], tree: Tree) -> Iterator[str]:
    """The names of a path as far as its nodes are in the tree."""
    before = None
    for name in names:
        if name not in tree.nodes or tree.nodes[name].parent != before:
            return
        yield name
        before = name


def abandoned_at(events: Sequence[Event], node: str) -> int | None:
    """The place of the return that abandoned a node for good, None where it stands or comes from another run."""
    record = _Record.of(events)
    left = record.abandoned.get(node)
    if left is None:
        return None
    return next(place for place, event in enumerate(events) if event is record.returns[left[2]])


def chunks_done(events: Iterable[Event]) -> int:
    """How many chunks are committed when the journal ends, and whole in it from the first one on."""
    return _Record.of(events).whole()


class JournalFile:
    """The writing end. A line is in the file when `add` returns, and on the disk with ``sync=True`` or after `sync`.

    `end`: where the last whole line ended when the file was opened, in bytes.
    """

    def __init__(self, path: Path) -> None:
        """Open `path` for appending; a torn last line is cut off. Raises as `read_lines` does, and `OSError`."""
        check_plain(path)
        content = read_file(path, MAX_BYTES) if path.exists() else b""
        found = _lines(path, content) if b"\n" in content else Lines()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
        self._identity, self._last, self.end = found.identity, found.last, found.end
        self._end = self.end
        os.ftruncate(self._file, self._end)
        self._pending = b""

    def add(self, event: Event, *, sync: bool = False) -> None:
        """Append one event. Raises `OSError` when it cannot be written; it is then written before the next one."""
        self._last += 1
        event = {**event, "line": self._last}
        event["check"] = digest(event, self._identity)
        if event["event"] == "started":
            self._identity = event["check"]
        self._pending += f"{json.dumps(event, ensure_ascii=False, allow_nan=False)}\n".encode("utf-8", "surrogatepass")
        done = 0
        try:
            while done < len(self._pending):
                done += os.pwrite(self._file, self._pending[done:], self._end + done)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end, self._pending = self._end + done, b""
        if sync:
            self.sync()

    def sync(self) -> None:
        """Wait until all lines are on the disk, safe from a power cut."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
        self._file = -1  # a late `sync` fails, and reaches no file that was opened since
