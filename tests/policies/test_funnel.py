"""The funnel: wide first, narrow last, for exactly the forwards of the fixed width."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import Outline
from streamt1_plugins.config.load import load
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.policies.funnel import Funnel, tapered
from streamt1_plugins.policies.width import Bounded, Scheduled, widest
from streamt1_plugins.resuming import open_interrupted
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.search.cost_estimate import at_most, describe, estimate
from streamt1_plugins.testing import PolicyContract
from tests.test_resuming import StopAfter, plain
from tests.toy import PricedSession, SteppingAdapter, SteppingSession, ToyPipeline, ToySession

CHUNKS = 6


def run(*overrides: str, observers: Any = None, **options: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), "funnel", overrides=overrides, observers=observers, **options)
    pipe.video = pipe("a prompt", chunks=CHUNKS)
    return pipe


def widths(pipe: streamt1.StreamPipeline) -> list[int]:
    return [len(pipe.tree.chunk(index)) for index in range(CHUNKS)]


def whole(*prices: int) -> list[Fraction]:
    return [Fraction(price) for price in prices]


# The arithmetic.


@pytest.mark.parametrize(
    ("prices", "mean", "least", "power", "expected"),
    [
        ((4,) * 7, 4, 1, 1.0, [7, 6, 5, 4, 3, 2, 1]),
        ((4,) * 7, 2, 1, 1.0, [3, 3, 2, 2, 2, 1, 1]),
        ((4,) * 7, 4, 2, 1.0, [6, 5, 5, 4, 3, 3, 2]),
        ((4,) * 7, 4, 1, 2.0, [9, 7, 5, 3, 2, 1, 1]),
        ((16, 4, 4, 4, 4, 4, 4), 4, 1, 1.0, [6, 4, 4, 3, 2, 2, 1]),  # the first chunk costs four times as much
        ((10, *(6,) * 9), 4, 1, 1.0, [7, 6, 5, 5, 4, 3, 3, 2, 2, 1]),  # 3 more of the first are 5 fewer of the others
        ((4,) * 3, 1, 1, 1.0, [1, 1, 1]),
        ((9,), 3, 1, 1.0, [3]),
        ((7, 3), 4, 1, 1.0, [4, 4]),  # nothing else adds up
    ],
)
def test_a_line_from_many_to_few(
    prices: tuple[int, ...], mean: int, least: int, power: float, expected: list[int]
) -> None:
    bounds = Funnel(least, power).bounds(load({"search": {"candidates": mean}}).search)
    assert tapered(whole(*prices), mean, bounds, power) == expected


@settings(max_examples=150, deadline=None)
@given(
    prices=st.lists(st.sampled_from([3, 4, 5, 16]), min_size=1, max_size=12),
    mean=st.integers(1, 9),
    data=st.data(),
    power=st.sampled_from([0.5, 1.0, 2.0, 10.0]),
)
def test_the_total_is_that_of_the_fixed_width(prices: list[int], mean: int, data: Any, power: float) -> None:
    least = data.draw(st.integers(1, mean))
    low, high = Funnel(least, power).bounds(load({"search": {"candidates": mean}}).search)
    found = tapered(whole(*prices), mean, (low, high), power)
    assert sum(n * price for n, price in zip(found, prices, strict=True)) == mean * sum(prices)
    assert all(low <= n <= high for n in found)
    parts = [price * Fraction(3, 7) for price in prices]
    found = tapered(parts, mean, (low, high), power)
    assert 0 <= mean * sum(parts) - sum(n * price for n, price in zip(found, parts, strict=True)) <= 2 * max(parts)


# Runs.


@pytest.mark.parametrize("prices", ["[4]", "[16, 4]", "[10, 6]", "[3, 5]", "[1]"])
@pytest.mark.parametrize("search", [("search.candidates=4",), ("search.candidates=3", "search.top_k=3")], ids=str)
def test_a_run_takes_the_forwards_of_the_fixed_width_and_those_that_are_estimated(
    prices: str, search: tuple[str, ...]
) -> None:
    tapering, fixed = (run(*search, f"adapter.prices={prices}", *more) for more in ((), ("width=fixed",)))
    assert tapering.last_run.cost.forwards == fixed.last_run.cost.forwards
    policy, recipe = tapering._policies["width"], tapering.recipe
    outline = tapering.last_run.session.outline()
    found = estimate(recipe, build.rewards(recipe), outline, policy)
    cost = tapering.last_run.cost
    assert (found.forwards, found.candidates, found.readings) == (cost.forwards, cost.candidates, cost.readings)
    top_k = recipe.search.top_k
    assert [width // top_k for width in widths(tapering)] == policy.schedule(recipe, outline)
    assert widths(tapering)[0] >= widths(tapering)[-1]


def test_it_is_wide_first_and_narrow_last() -> None:
    assert widths(run("adapter.prices=[4]")) == [14, 12, 10, 6, 4, 2]
    assert widths(run()) == [14, 12, 10, 6, 4, 2]  # without an outline, chunks count alike
    assert widths(run("search.candidates=1")) == [2] * CHUNKS


def test_a_call_that_continues_a_video_tapers_over_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToySession, "root", lambda self: streamt1.History(2, memory=(), decoder=0.0))
    outline = PricedSession.outline
    given = lambda self: Outline((0, 0, *outline(self).generate[2:]), outline(self).commit, 3)  # noqa: E731
    monkeypatch.setattr(PricedSession, "outline", given)
    monkeypatch.setattr(PricedSession, "generate", ToySession.generate)
    for prices in ("null", "[4]"):
        assert widths(run(f"adapter.prices={prices}")) == [0, 0, 14, 10, 6, 2]


@pytest.mark.parametrize("early", [("early.steps=1",), ("early.steps=2", "early.keep=[0.75, 0.4]")], ids=str)
def test_early_pruning_is_counted(monkeypatch: pytest.MonkeyPatch, early: tuple[str, ...]) -> None:
    outline = SteppingAdapter().outline(3 * CHUNKS)
    monkeypatch.setattr(SteppingSession, "outline", lambda self: outline, raising=False)
    pipes = [run(*early, *more, adapter="toy-steps") for more in ((), ("width=fixed",))]
    tapering, fixed = (pipe.last_run.cost.forwards for pipe in pipes)
    assert (
        fixed - 4 * max(outline.generate) <= tapering <= fixed + CHUNKS
    )  # of a share of n, a part of one is rounded up
    recipe = pipes[0].recipe
    found = estimate(recipe, build.rewards(recipe), outline, pipes[0]._policies["width"])
    assert found.forwards == tapering


@pytest.mark.parametrize("stop", [0, 3])
def test_a_resumed_run_has_the_same_widths(tmp_path: Path, stop: int) -> None:
    priced = "adapter.prices=[16, 4]"
    full = run(priced, observers=record_to(tmp_path / "full"))
    with pytest.raises(KeyboardInterrupt):
        run(priced, observers={**record_to(tmp_path / "cut"), "stop": StopAfter(stop)})
    again = open_interrupted(tmp_path / "cut", ToyPipeline())
    assert torch.equal(again.complete(again.last_run), full.video)
    assert plain(again.tree.to_dict()) == plain(full.tree.to_dict())


# Estimates and recipes.


def test_an_estimate_is_one_line() -> None:
    recipe = streamt1.wrap(ToyPipeline(), "funnel", adapter="toy-steps").recipe
    rewards = build.rewards(recipe)
    policies = {"width": Funnel()}
    line = describe(recipe, SteppingAdapter(), rewards, 3 * CHUNKS, policies=policies)
    assert line == str(at_most(recipe, rewards, SteppingAdapter().outline(3 * CHUNKS), policies))
    fixed = describe(recipe, SteppingAdapter(), rewards, 3 * CHUNKS)
    assert line.partition(" transformer")[0].rpartition(" ")[2] == fixed.partition(" transformer")[0].rpartition(" ")[2]
    assert at_most(recipe, rewards, CHUNKS, policies).candidates == 8 * CHUNKS
    assert describe(recipe, object(), rewards, policies=policies).startswith("at most, per chunk: 14 candidates")


def test_its_bounds_are_known() -> None:
    search = load("funnel").search
    assert isinstance(Funnel(), Bounded)
    assert isinstance(Funnel(), Scheduled)
    assert Funnel().bounds(search) == (1, 7)
    assert Funnel(power=2.0).bounds(search) == (1, 10)
    assert widest(Funnel(least=4), search) == 4


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("{name: funnel, least: 5}", r"width\.least = 5 is more than search\.candidates = 4"),
        ("{name: funnel, power: 0}", "greater than 0"),
        ("{name: funnel, steep: 2}", "no option 'steep'"),
    ],
)
def test_a_funnel_that_cannot_be_is_refused(options: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        run(f"width={options}")


class TestFunnel(PolicyContract):
    kind = "width"

    def make_policy(self) -> Funnel:
        return Funnel()
