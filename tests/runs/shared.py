"""A run of the tests' pipeline under given observers, and one that breaks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.api.types import Chunk
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.observers.record import record_to
from tests.toy import ToyPipeline


def run(observers: dict[str, object], *overrides: str, recipe: str = "stream-t1", **call: object) -> object:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides, observers=observers)
    pipe("a prompt", **call)
    return pipe


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the events of a journal in place, with digests as if the run had written them like that."""
    path = folder / journal.JOURNAL
    events = [json.loads(line) for line in path.read_bytes().splitlines()]
    for event in events:
        event.pop("line", None)
        event.pop("check", None)
    change(events)
    path.unlink()
    file = journal.JournalFile(path)
    for event in events:
        file.add(event)
    file.close()


class Failing:
    """Breaks at one moment of the run."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error = at, error

    @hookimpl
    def streamt1_chunk_selected(self, chunk: Chunk) -> None:
        if chunk.index == self.at:
            raise self.error


def recorded(folder: Path, *overrides: str, prompt: str = "a prompt", **call: Any) -> streamt1.StreamPipeline:
    """A run with everything that `record_to` writes."""
    pipe = streamt1.wrap(ToyPipeline(), overrides=overrides, observers=record_to(folder))
    pipe(prompt, **call)
    return pipe
