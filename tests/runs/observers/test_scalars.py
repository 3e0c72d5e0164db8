"""The numbers of a chunk, and what a failing dashboard costs."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.api.types import Chunk
from streamt1_plugins.runs.observers.scalars import Dashboard, chunk_scalars, step_of
from tests.search.revising import Returning
from tests.toy import ToyPipeline


class Collector:
    """Keeps the numbers of every chunk."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    @hookimpl
    def streamt1_chunk_selected(self, run: streamt1.Run, chunk: Chunk) -> None:
        self.found.append(chunk_scalars(run, chunk))


def collected(recipe: str = "stream-t1", *overrides: str) -> tuple[streamt1.StreamPipeline, list[dict[str, float]]]:
    collector = Collector()
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides, observers={"collector": collector})
    pipe("a prompt")
    return pipe, collector.found


def test_the_numbers_are_those_of_the_tree() -> None:
    pipe, found = collected()
    for index, numbers in enumerate(found):
        scores, (best, *_) = pipe.tree.scores(index), pipe.tree.kept(index)
        assert numbers["score/best"] == max(scores)
        assert numbers["score/mean"] == pytest.approx(sum(scores) / 4)
        assert (numbers["count/candidates"], numbers["count/kept"], numbers["count/invalid"]) == (4, 2, 0)
        assert numbers["long/bright"] == best.readings["long"]["bright"].raw
        assert sum(value for name, value in numbers.items() if name.startswith("route/")) == 2
    assert found[0]["count/sinks"] == 1


def test_invalid_candidates_are_counted_and_have_no_score() -> None:
    _, found = collected("stream-t1", "rewards.long.picky={options: {chunk: 1, ordinals: [0, 1, 2, 3]}}")
    assert found[1]["count/invalid"] == 4
    assert "score/best" in found[0]
    assert "score/best" not in found[1]


def test_without_rewards_or_routes_there_are_no_such_numbers() -> None:
    _, found = collected("plain", "adapter.routed=false")
    assert not [name for name in found[-1] if name.startswith(("score/", "route/", "count/sinks"))]


def test_the_step_of_a_chunk_never_falls() -> None:
    found: list[tuple[int, int]] = []

    class Steps:
        @hookimpl
        def streamt1_chunk_selected(self, run: streamt1.Run, chunk: Chunk) -> None:
            found.append((chunk.index, step_of(run, chunk)))

    pipe = streamt1.wrap(ToyPipeline(), policies={"revision": Returning()}, observers={"steps": Steps()})
    pipe("a prompt")
    assert found == [(0, 0), (1, 1), (2, 2), (1, 3), (2, 4), (3, 5)]


class Board(Dashboard):
    """Fails at its end too."""

    def _end(self, ended: Any, failed: bool) -> None:
        self.ended = (ended, failed)
        raise OSError("no end")


def test_the_first_failure_is_a_warning_and_ends_the_logging(caplog: pytest.LogCaptureFixture) -> None:
    dashboard: Any = Board()
    dashboard.__post_init__()
    dashboard._log = "the log"
    with caplog.at_level(logging.WARNING), dashboard._guarded("The board"):
        raise ConnectionError("gone.")
    assert dashboard._log is None
    assert caplog.messages == ["The board failed: ConnectionError: gone. The run continues without it."]
    assert dashboard.ended == ("the log", True), "finished, whatever happens"
