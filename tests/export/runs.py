"""Recorded runs of the toy for the tests of the room."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import streamt1_plugins as streamt1
from streamt1_plugins.export.run import DATA

WIDE = ("search.candidates=3", "search.top_k=2")


def recorded(folder: Path, *overrides: str, recipe: str = "beam", **call: Any) -> streamt1.StreamPipeline:
    """A run of the bundled toy, which any command can load again."""
    pipe = streamt1.load("toy", recipe, overrides=[*WIDE, *overrides], observers=streamt1.record_to(folder))
    pipe("a prompt", **{"chunks": 3, **call})
    return pipe


def lines(out: Path, run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / DATA / f"{run}.jsonl").read_text(encoding="utf-8").splitlines()]
