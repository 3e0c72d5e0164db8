"""The memory told beforehand: sums of what is kept, and the knobs that lower it."""

from __future__ import annotations

import pytest

from streamt1_plugins.api.adapter import Footprint
from streamt1_plugins.config import load as recipes
from streamt1_plugins.config.schema import SearchSettings
from streamt1_plugins.search.memory_estimate import MemoryEstimate, as_text, estimate, memory_plan

EACH = Footprint(weights=1000, memory=100, reading=120, latents=1, frames=10, state=50, chunks=4)


def search(**changes: object) -> SearchSettings:
    return recipes.load({"search": {"candidates": 3, "top_k": 2, **changes}}).search


@pytest.mark.parametrize(
    ("changes", "processes", "candidates", "waiting", "beams"),
    [
        ({}, 1, 6, 6, 2),
        ({}, 4, 2, 2, 2),
        ({"offload": "recompute"}, 1, 6, 1, 2),
        ({"offload": "recompute", "batch": 4}, 1, 6, 4, 2),
        ({"offload": "cpu"}, 1, 6, 1, 1),
    ],
)
def test_the_estimate_is_the_sum_of_what_is_kept(
    changes: dict[str, object], processes: int, candidates: int, waiting: int, beams: int
) -> None:
    found = estimate(search(**changes), EACH, width=3, processes=processes, rewards=7)
    assert found == MemoryEstimate(
        model=1000,
        memory=beams * 100 + 120,
        states=(waiting + 2) * 50,
        frames=candidates * (2 * 1 + 10) + 2 * 4 * 11,
        rewards=7,
    )
    assert found.total == sum(size for _, size in found.parts())


def test_the_estimate_is_a_line_of_text() -> None:
    line = str(estimate(search(), EACH, width=3, rewards=7))
    assert line.startswith("about 1.89 kB of memory, activations aside (model 1 kB, memory 320 Bytes, ")


@pytest.mark.parametrize("knob", [{"offload": "recompute"}, {"offload": "cpu"}, {"top_k": 1}])
def test_knobs_lower_it(knob: dict[str, object]) -> None:
    assert estimate(search(**knob), EACH, width=3).total < estimate(search(), EACH, width=3).total
    assert estimate(search(), EACH, width=2).total < estimate(search(), EACH, width=3).total


@pytest.mark.parametrize(
    ("memory", "sinks", "precision"),
    [
        ("reward_feedback", 5, "float32"),
        ("fixed", 1, "model"),
        ({"name": "fixed", "route": "append"}, 5, "float32"),
    ],
)
def test_a_memory_without_routes_stays_small(memory: object, sinks: int, precision: str) -> None:
    plan = memory_plan(recipes.load({"memory": memory}))
    assert (plan.max_sink_chunks, plan.sink_precision) == (sinks, precision)


@pytest.mark.parametrize(("count", "shown"), [(0, "0 Bytes"), (999, "999 Bytes"), (1234, "1.23 kB"), (5e12, "5 TB")])
def test_bytes_are_shown_in_powers_of_a_thousand(count: float, shown: str) -> None:
    assert as_text(count) == shown
