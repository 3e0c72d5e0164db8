"""The memory told beforehand: sums of what is kept, and the knobs that lower it."""

from __future__ import annotations

import pytest

from streamt1_plugins.api.adapter import Footprint
from streamt1_plugins.config import load as recipes
from streamt1_plugins.config.schema import SearchSettings
from streamt1_plugins.search.memory_estimate import Held, Peak, memory_plan, peak, sized

EACH = Footprint(weights=1000, memory=100, reading=120, latents=1, frames=10, state=50, chunks=4)


def search(**changes: object) -> SearchSettings:
    return recipes.load({"search": {"candidates": 3, "top_k": 2, **changes}}).search


@pytest.mark.parametrize(
    ("changes", "processes", "held"),
    [
        ({}, 1, Held(candidates=6, waiting=6, beams=2)),
        ({}, 4, Held(candidates=2, waiting=2, beams=2)),
        ({"offload": "recompute"}, 1, Held(candidates=6, waiting=1, beams=2)),
        ({"offload": "recompute", "batch": 4}, 1, Held(candidates=6, waiting=4, beams=2)),
        ({"offload": "cpu"}, 1, Held(candidates=6, waiting=1, beams=1)),
    ],
)
def test_how_many_are_held_at_once(changes: dict[str, object], processes: int, held: Held) -> None:
    assert Held.by(search(**changes), 3, processes) == held


def test_the_peak_is_the_sum_of_what_is_kept() -> None:
    found = peak(search(), EACH, width=3, rewards=7)
    assert found == Peak(
        model=1000,
        context=2 * 100 + 120,
        candidates=6 * (2 * 1 + 10) + 6 * 50,
        videos=2 * (4 * 11 + 50),
        rewards=7,
    )
    assert found.total == 1000 + 320 + 372 + 188 + 7
    assert str(found).startswith("about 1.89 kB of memory, activations aside (model 1 kB, context 320 B, ")


@pytest.mark.parametrize("knob", [{"offload": "recompute"}, {"offload": "cpu"}, {"top_k": 1}])
def test_knobs_lower_it(knob: dict[str, object]) -> None:
    assert peak(search(**knob), EACH, width=3).total < peak(search(), EACH, width=3).total
    assert peak(search(), EACH, width=2).total < peak(search(), EACH, width=3).total


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


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (5e12, "5e+03 GB")])
def test_bytes_are_shown_in_powers_of_a_thousand(count: float, shown: str) -> None:
    assert sized(count) == shown
