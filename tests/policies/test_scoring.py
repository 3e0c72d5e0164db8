"""The hybrid score and the mean over a path."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import History
from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.types import Chunk, Node
from streamt1_plugins.policies.scoring import Hybrid, accumulated, hybrid
from tests.toy import ToyPipeline

NAN = math.nan


@pytest.mark.parametrize(
    ("short", "long", "progress", "expected"),
    [(10, 1, 0.0, 1), (10, 1, 0.25, 3.25), (10, 1, 0.4, 4.6), (10, 1, 1.0, 4.6)],
)
def test_hybrid_weighs_the_short_reward_by_progress_up_to_the_cap(
    short: float, long: float, progress: float, expected: float
) -> None:
    assert hybrid(short, long, progress, cap=0.4) == pytest.approx(expected)


def test_hybrid_leaves_the_score_to_the_horizon_that_was_measured() -> None:
    assert hybrid(3, NAN, 0.0, 0.4) == 3
    assert hybrid(NAN, 5, 1.0, 0.4) == 5
    assert hybrid(NAN, NAN, 1.0, 0.4) == 0


def judged(window: int | None, decay: float = 1.0, **options: Any) -> float:
    """The score of chunk 3 of 5 after chunks that measured 10, nothing, 2 and 4; its own rewards are 8."""
    path = (measured(0, 10, 10), measured(1, NAN, NAN), measured(2, 2, 2))
    candidate: Any = SimpleNamespace(beam=Beam(History(index=3), path), short=8.0, long=8.0)
    run: Any = None
    return Hybrid(window=window, decay=decay, **options).streamt1_score(run, Chunk(3, 5), candidate)


def test_the_score_is_this_chunks_alone_unless_told_otherwise() -> None:
    assert Hybrid() == Hybrid(cap=0.4, horizon="both", window=1, decay=1.0)
    assert judged(1) == judged(1, decay=0.5) == 8


def test_scores_are_averaged_over_a_window_or_the_whole_path() -> None:
    assert judged(2) == pytest.approx((2 + 8) / 2)
    assert judged(3) == pytest.approx((2 + 8) / 2)  # what was not measured is left out
    assert judged(None) == judged(99) == pytest.approx((10 + 2 + 8) / 3)


def test_older_chunks_count_less_with_a_decay() -> None:
    assert judged(None, decay=0.5) == pytest.approx((0.25 * 10 + 0.5 * 2 + 8) / 1.75)
    assert accumulated([3.0], 0.1) == 3
    assert accumulated([-1.0, 1.0, 1.0], 1e-9) == pytest.approx(1)


def test_each_chunk_of_a_path_has_its_own_balance_of_the_rewards() -> None:
    path = (measured(0, 1, 0), measured(1, 1, 0))
    candidate: Any = SimpleNamespace(beam=Beam(History(index=2), path), short=1.0, long=0.0)
    run: Any = None
    assert Hybrid(window=None).streamt1_score(run, Chunk(2, 5), candidate) == pytest.approx((0 + 0.25 + 0.4) / 3)


@pytest.mark.parametrize(
    ("horizon", "short", "long", "expected"),
    [
        ("short", 10, 1, 10),
        ("long", 10, 1, 1),
        ("both", 10, 1, 4.6),
        ("short", NAN, 1, 1),
        ("long", 10, NAN, 10),
        ("short", NAN, NAN, 0),
    ],
)
def test_one_horizon_alone_can_decide(horizon: Any, short: float, long: float, expected: float) -> None:
    candidate: Any = SimpleNamespace(beam=Beam(History()), short=short, long=long)
    run: Any = None
    assert Hybrid(horizon=horizon).streamt1_score(run, Chunk(9, 10), candidate) == pytest.approx(expected)


def measured(chunk: int, short: float, long: float = 0.0) -> Node:
    return Node(chunk=chunk, ordinal=0, parent=None, seed=0, short=short, long=long)


WIDE = ("search.candidates=4", "search.top_k=2")


def run(*overrides: str, recipe: str = "stream-t1") -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides)
    pipe.video = pipe("a prompt", chunks=6)
    return pipe


@pytest.mark.parametrize("window", ["1", "3", "null"])
def test_a_score_is_the_mean_over_the_path(window: str) -> None:
    pipe = run(*WIDE, f"scoring.window={window}")
    for node in pipe.tree:
        path = pipe.tree.path(node.id)
        own = [hybrid(each.short, each.long, each.chunk / 5, 0.4) for each in path]
        counted = own if window == "null" else own[-int(window) :]
        assert node.score == pytest.approx(sum(counted) / len(counted))


@pytest.mark.parametrize("horizon", ["short", "long"])
def test_one_horizon_decides_and_both_are_measured(horizon: str) -> None:
    pipe = run(recipe=f"{horizon}-only")
    assert all(node.score == getattr(node, horizon) for node in pipe.tree)
    assert all(node.readings["short"] and node.readings["long"] for node in pipe.tree)
    assert bool(pipe.tree.final) == (horizon == "long")
    assert pipe.recipe.memory.name == "reward_feedback"
