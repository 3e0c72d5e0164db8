"""Counting the forwards of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamt1_plugins.compare import forwards
from streamt1_plugins.compare.run import Pipelines, read
from streamt1_plugins.config.schema import Recipe
from tests.compare.examples import comparison


def test_forwards_are_counted_once_and_remembered_on_disk(tmp_path: Path) -> None:
    made: list[Recipe] = []

    class Counting(Pipelines):
        def __call__(self, each: Recipe) -> Any:
            made.append(each)
            return super().__call__(each)

    given, out = comparison(), tmp_path / "out"
    for _ in range(2):
        count = forwards.counter(given, out, Counting("toy"))
        assert [count(given.recipes["beam"]) for _ in range(2)] == [16, 16]
    assert len(made) == 1
    (kept,) = read(out, forwards.FORWARDS)
    assert (kept["candidates"], kept["top_k"], kept["forwards"]) == (2, 2, 16)


def test_forwards_of_another_length_are_counted_anew(tmp_path: Path) -> None:
    short = comparison(call={"chunks": 2})
    assert forwards.counter(comparison(), tmp_path, Pipelines("toy"))(short.recipes["beam"]) == 16
    assert forwards.counter(short, tmp_path, Pipelines("toy"))(short.recipes["beam"]) == 8
