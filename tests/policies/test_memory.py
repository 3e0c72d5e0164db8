"""Memory routes, against the paper's rule and tables recorded from the authors' release."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from streamt1_plugins.api.adapter import History
from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.types import Node
from streamt1_plugins.config.load import load
from streamt1_plugins.policies.memory import FixedRoute, RewardFeedback, feedback, route
from streamt1_plugins.policies.scoring import hybrid

GOLDEN = Path(__file__).parents[1] / "golden" / "cases" / "formulas.json"


NAN = math.nan


@pytest.mark.parametrize(
    ("gain", "loss", "expected"),
    [
        (0.1, 0.0, "ema"),
        (0.1, 0.3, "append"),
        (-0.1, 0.3, "discard"),
        (-0.1, 0.0, "discard"),
        (0.0, 0.3, "discard"),  # thresholds are strict
        (0.1, 0.2, "ema"),
        (NAN, 0.3, "discard"),
        (0.1, NAN, "ema"),
    ],
)
def test_route_table(gain: float, loss: float, expected: str) -> None:
    assert route(gain, loss, short_threshold=0.0, long_threshold=0.2) == expected


def test_a_break_may_flush() -> None:
    assert route(0.1, 0.3, 0.0, 0.2, "flush") == "flush"
    assert route(0.1, 0.1, 0.0, 0.2, "flush") == "ema"
    assert route(-0.1, 0.3, 0.0, 0.2, "flush") == "discard"


def measured(chunk: int, short: float, long: float = 0.0) -> Node:
    return Node(chunk=chunk, ordinal=0, parent=None, seed=0, short=short, long=long)


def test_feedback_compares_with_the_window_or_with_everything() -> None:
    past = [measured(0, 10), measured(1, 2), measured(2, 4, long=3)]
    assert feedback(past, measured(3, 5, long=1), None) == (pytest.approx(5 - 16 / 3), 2)
    assert feedback(past, measured(3, 5, long=1), 2) == (2, 2)
    assert feedback(past, measured(3, 5, long=1), 99) == feedback(past, measured(3, 5, long=1), None)


@pytest.mark.parametrize(
    ("window", "history", "expected"), [(3, "window", "ema"), (3, "all", "discard"), (1, "window", "ema")]
)
def test_reward_feedback_looks_back_as_far_as_it_is_told(window: int, history: Any, expected: str) -> None:
    beam = Beam(History(index=3), (measured(0, 10), measured(1, 2), measured(2, 4)))
    candidate: Any = SimpleNamespace(beam=beam, short=5.0, long=0.0)
    run: Any = SimpleNamespace(recipe=load({"rewards": {"window": window}}))
    assert RewardFeedback(history=history).streamt1_route_memory(run, candidate) == expected


def test_fixed_routes_everything_alike() -> None:
    assert FixedRoute().streamt1_route_memory() == "discard"
    assert FixedRoute("append").streamt1_route_memory() == "append"


@pytest.fixture(scope="module")
def golden() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not GOLDEN.exists():
        pytest.skip("the recorded formulas are not in this checkout")
    return json.loads(GOLDEN.read_text(encoding="utf-8")), load_file(GOLDEN.with_suffix(".safetensors"))


def test_routes_and_scores_are_the_releases(golden: Any) -> None:
    rows = golden[0]["routing"]
    assert {row["route"] for row in rows} == {None, "discard", "ema", "append"}
    for row in rows:
        progress = row["start_frame"] / (row["total_frames"] - row["frames_per_chunk"])
        assert hybrid(row["short"], row["long"], progress, row["alpha_cap"]) == pytest.approx(row["hybrid"], abs=1e-12)
        if row["chunk"]:
            past = [
                measured(i, *pair) for i, pair in enumerate(zip(row["short_history"], row["long_history"], strict=True))
            ]
            gain, loss = feedback(past, measured(row["chunk"], row["short"], row["long"]), None)
            assert route(gain, loss, row["short_threshold"], row["long_threshold"]) == row["route"]
