"""The cost that is told beforehand is the cost that a run then counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import HasOutline, Outline
from streamt1_plugins.errors import InputError, PluginError, RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.resolve import resolve
from streamt1_plugins.search.cost_estimate import CostEstimate, describe, estimate
from tests.toy import SteppingAdapter, ToyAdapter, ToyPipeline

COUNTED = ("candidates", "forwards", "latent_frames_decoded", "reward_calls", "readings")


@dataclass
class Outlined(ToyAdapter):
    """The toy takes one forward per candidate and no clean pass."""

    broken: bool = False

    def outline(self, num_frames: int | None = None) -> Outline:
        if self.broken:
            raise ZeroDivisionError("no luck")
        chunks = 4 if num_frames is None else num_frames // 3
        return Outline((1,) * chunks, (0,) * chunks, latent_frames=3)


def estimated(recipe: streamt1.Recipe, num_frames: int | None = None) -> CostEstimate:
    return estimate(recipe, build.rewards(recipe), Outlined().outline(num_frames))


def counted(run: Any) -> dict[str, int]:
    return {name: getattr(run.cost, name) for name in COUNTED}


TWO_STAGES = "rewards.long={bright: {stage: 1}, picky: {stage: 2, options: {ordinals: []}}}"


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("search.candidates=3", "search.top_k=1"),
        ("search.candidates=1", "search.top_k=4"),
        ("search.final=last_chunk",),
        ("search.batch=8",),
        ("search.offload=recompute",),
        ("rewards.decode=cold", "rewards.window=2"),
        ("rewards.decode=cold", "rewards.short={bright: {}}"),
        ("search.candidates=4", "search.top_k=2", "rewards.keep=0.3", TWO_STAGES),
        ("search.candidates=1", "search.top_k=1"),
    ],
    ids=str,
)
def test_the_forecast_is_what_the_run_counts(overrides: tuple[str, ...]) -> None:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides)
    pipe("a prompt", chunks=6)
    expected = estimated(pipe.recipe, num_frames=18)
    assert {name: getattr(expected, name) for name in COUNTED} == counted(pipe.last_run)
    assert expected.chunks == 6


EARLY = ("early.steps=1", "search.candidates=4")


@pytest.mark.parametrize(
    "overrides",
    [
        ("early.steps=1",),
        EARLY,
        (*EARLY, "early.keep=0.3", "search.batch=3"),
        (*EARLY, "early.keep=1"),
        ("early.steps=4", "search.candidates=4"),
        ("early.steps=6", "search.candidates=4"),
        (*EARLY, "rewards.keep=0.3", TWO_STAGES),
        (*EARLY, "rewards.decode=cold", "rewards.window=2", TWO_STAGES, "rewards.replace=true"),
        (*EARLY, "rewards.decode=cold", "rewards.window=2", "rewards.long.bright.stage=2"),
        (*EARLY, "search.offload=recompute", "search.top_k=1"),
        ("early.steps=1", "search.candidates=1", "search.top_k=4"),
        ("early.steps=1", "search.candidates=1", "search.top_k=1"),
    ],
    ids=str,
)
def test_the_forecast_of_an_early_look_is_what_the_run_counts(overrides: tuple[str, ...]) -> None:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", adapter="toy-steps", overrides=overrides)
    pipe("a prompt", chunks=6)
    expected = estimate(pipe.recipe, build.rewards(pipe.recipe), SteppingAdapter().outline(18))
    assert {name: getattr(expected, name) for name in COUNTED} == counted(pipe.last_run)


def test_an_early_look_saves_the_forwards_of_those_left_behind() -> None:
    recipe = streamt1.wrap(ToyPipeline(), adapter="toy-steps", overrides=EARLY).recipe
    found = estimate(recipe, build.rewards(recipe), SteppingAdapter().outline(6))
    assert found.forwards == 8 * 1 + 4 * 5 + 8 * 1 + 4 * 3
    assert found.latent_frames_decoded == 2 * 3 * (8 + 4)
    assert found.readings == 2 * (8 + 4) * 2 + 2
    line = describe(recipe, ToyAdapter(), build.rewards(recipe))
    assert line.startswith("per chunk: 8 candidates, 8 + 4 (S - 1) + 2 transformer forwards")
    assert "12 chunks decoded" in line


def test_an_early_look_at_whole_candidates_is_refused_before_the_run() -> None:
    recipe = streamt1.wrap(ToyPipeline(), overrides=EARLY).recipe
    with pytest.raises(RecipeError, match=r"early\.steps: the adapter 'toy' cannot stop.*early\.steps=0"):
        estimated(recipe)


@pytest.mark.parametrize("recipe", ["stream-t1", "plain", "early"])
def test_the_bundled_model_takes_what_its_adapter_estimated(recipe: str) -> None:
    pipe = streamt1.load(overrides=EARLY) if recipe == "early" else streamt1.load(recipe=recipe)
    pipe("a red circle moving right on a blue background", num_frames=21)
    adapter = build.adapter(pipe.recipe)
    assert isinstance(adapter, HasOutline)
    expected = estimate(pipe.recipe, build.rewards(pipe.recipe), adapter.outline(21))
    assert counted(pipe.last_run) == {name: getattr(expected, name) for name in COUNTED}


def outlined(*overrides: str, num_frames: int | None = None) -> Outline:
    adapter = build.adapter(resolve("longlive", overrides=overrides))
    assert isinstance(adapter, HasOutline)
    return adapter.outline(num_frames)


def test_a_schedule_steps_and_guidance_are_counted() -> None:
    assert outlined(num_frames=21) == Outline((4, 4), (1, 0), 3, (4, 4))
    assert outlined("adapter.guidance_scale=5", num_frames=21) == Outline((8, 8), (2, 0), 3, (4, 4))
    assert outlined("adapter.steps=[16, 4]", num_frames=33).generate == (16, 4, 4)
    assert outlined("adapter.chunk_frames=1", num_frames=9) == Outline((4, 4, 4), (1, 1, 0), 1, (4, 4, 4))
    assert len(outlined().generate) == 40
    with pytest.raises(InputError, match="Nearest: 465 or 477"):
        outlined(num_frames=470)


def test_the_forecast_is_told_in_a_line() -> None:
    recipe = streamt1.wrap(ToyPipeline()).recipe
    assert describe(recipe, Outlined(), build.rewards(recipe)) == (
        "4 chunks: 16 candidates, 16 transformer forwards, 48 latent frames decoded, 9 reward calls (34 readings)"
    )


def test_an_adapter_that_cannot_tell_gets_the_formula_of_a_chunk() -> None:
    recipe = streamt1.wrap(ToyPipeline()).recipe
    line = describe(recipe, ToyAdapter(), build.rewards(recipe))
    assert line.startswith("per chunk: 4 candidates, 4 S + 2 transformer forwards (S steps")
    assert line.endswith("4 chunks decoded, 2 reward calls (8 readings)")


def test_an_adapter_that_fails_to_tell_is_named() -> None:
    recipe = streamt1.wrap(ToyPipeline()).recipe
    with pytest.raises(PluginError, match=r"The outline of adapter 'toy' failed.*no luck"):
        describe(recipe, Outlined(broken=True), build.rewards(recipe))
