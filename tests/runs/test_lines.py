"""The types and bounds of a journal's lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins.errors import InputError
from streamt1_plugins.runs.lines import MAX_CHUNKS, typed

OLD = Path(__file__).parents[1] / "data" / "runs-0.1"
EVENTS = [json.loads(line) for line in (OLD / "toy" / "journal.jsonl").read_text().splitlines()]
START, CANDIDATE = EVENTS[0], EVENTS[1]
CHUNK = next(event for event in EVENTS if event["event"] == "chunk")


def nested(depth: int) -> Any:
    return {} if depth == 0 else {"a": [nested(depth - 1)]}


@pytest.mark.parametrize("event", EVENTS)
def test_events_of_version_0_1_are_whole(event: dict[str, Any]) -> None:
    assert typed(event, "here", chunks=6) == event


@pytest.mark.parametrize(
    ("event", "field", "value", "problem"),
    [
        (START, "seed", "7", "valid integer"),
        (START, "seed", True, "valid integer"),
        (START, "seed", 2**64, "less than"),
        (START, "chunks", 10**19, "less than or equal"),
        (START, "chunks", 0, "greater than"),
        (START, "fps", 0, "greater than"),
        (START, "device", "cpu; rm", "match pattern"),
        (START, "prompt", None, "be a string"),
        (START, "prompt", "x" * 2_000_000, "at most 1000000 characters"),
        (START, "call", nested(100), "nested at most"),
        (START, "recipe", {**START["recipe"], "rewards": {"short": 3, "long": {}}}, "valid dictionary"),
        (START, "recipe", {"x": nested(100)}, "nested at most"),
        (CANDIDATE, "chunk", 5_000_000, "less than 100000"),
        (CANDIDATE, "chunk", 7, "has 6 chunks"),
        (CANDIDATE, "id", "000.01", "Candidate 0 of chunk 0 is 000.00"),
        (CANDIDATE, "id", "../../x", "match pattern"),
        (CANDIDATE, "parent", "000.00", "one of the chunk before"),
        (CANDIDATE, "score", float("inf"), "finite"),
        (CANDIDATE, "rewards", {"short": {"bright": 1.0}}, "valid dictionary"),
        (CANDIDATE, "route", "else where!", "match pattern"),
        (CHUNK, "kept", ["003.00"], "ids of chunk 0"),
        (CHUNK, "cost", {"candidates": "many"}, "valid integer"),
        (CHUNK, "notes", "a note", "valid list"),
    ],
)
def test_a_wrong_field_is_named_with_its_place(event: dict[str, Any], field: str, value: Any, problem: str) -> None:
    with pytest.raises(InputError, match=rf"^here: {field}.* = .*{problem}") as caught:
        typed({**event, field: value}, "here", chunks=6)
    assert len(str(caught.value)) < 500


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InputError, match="here: seed is missing"):
        typed({name: value for name, value in CANDIDATE.items() if name != "seed"}, "here")


def test_what_newer_versions_add_is_left_out() -> None:
    assert typed({**CANDIDATE, "more": 1}, "here") == CANDIDATE
    assert typed({"event": "later"}, "here") is None
    assert typed({**START, "prompt": "caf\udce9", "chunks": MAX_CHUNKS}, "here") is not None
