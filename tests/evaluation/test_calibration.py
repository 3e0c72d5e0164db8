"""From raw scores to one number per horizon, and which calibrations a memory policy may feed on."""

from __future__ import annotations

import math
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.api.types import Reading
from streamt1_plugins.config.rewards import FixedCalibration
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.evaluation.calibration import calibrate, combine
from tests.toy import ToyPipeline

NAN = math.nan


def same(got: list[float], expected: list[float]) -> bool:
    return got == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("calibration", "raws", "earlier", "expected"),
    [
        ("none", [3.0, NAN, 1.0], [100.0], [3.0, NAN, 1.0]),
        (FixedCalibration(mean=1, std=2), [3.0, NAN, 1.0], [100.0], [1.0, NAN, 0.0]),
        ("group", [1.0, 3.0], [100.0], [-1.0, 1.0]),
        ("group", [1.0, NAN, 3.0], [], [-1.0, NAN, 1.0]),
        ("group", [5.0, 5.0], [0.0], [0.0, 0.0]),
        ("group", [5.0, NAN], [], [0.0, NAN]),
        ("group", [NAN, NAN], [], [NAN, NAN]),
        ("running", [1.0, 3.0], [], [-1.0, 1.0]),
        ("running", [4.0], [0.0], [1.0]),
        ("running", [4.0, NAN], [0.0, NAN], [1.0, NAN]),
        ("running", [2.0], [], [0.0]),
        ("running", [2.0], [2.0, 2.0], [0.0]),
        ("rank", [3.0, 1.0, 2.0], [100.0], [1.0, 0.0, 0.5]),
        ("rank", [2.0, 2.0, 1.0], [], [0.5, 0.5, 0.0]),
        ("rank", [2.0, NAN, 1.0], [], [0.5, NAN, 0.0]),
        ("rank", [7.0], [], [0.0]),
    ],
)
def test_calibration(calibration: Any, raws: list[float], earlier: list[float], expected: list[float]) -> None:
    assert same(calibrate(raws, earlier, calibration), expected)


@pytest.mark.parametrize("calibration", ["none", "running", "group", "rank", FixedCalibration(mean=3, std=0.1)])
def test_calibration_never_changes_the_order_within_a_chunk(calibration: Any) -> None:
    raws = [0.3, -2.0, 5.5, 0.31]
    values = calibrate(raws, [1.0, 9.0], calibration)
    assert sorted(range(4), key=raws.__getitem__) == sorted(range(4), key=values.__getitem__)


@pytest.mark.parametrize("calibration", ["none", "running", "group", "rank"])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, NAN])
def test_what_is_not_finite_stays_so(calibration: str, bad: float) -> None:
    values = calibrate([1.0, bad, 2.0], [], calibration)
    assert [math.isfinite(value) for value in values] == [True, False, True]


def test_readings_combine_by_weight() -> None:
    assert combine({"a": Reading(9, 1.0, 1.0), "b": Reading(9, 4.0, 2.0)}) == 3.0


def test_what_has_no_weight_does_not_count_not_even_when_it_is_nan() -> None:
    assert combine({"a": Reading(9, 1.0, 1.0), "b": Reading(NAN, NAN, 0.0)}) == 1.0
    assert math.isnan(combine({"b": Reading(1.0, 1.0, 0.0)}))
    assert math.isnan(combine({}))


@pytest.mark.parametrize("calibration", ["group", "rank"])
@pytest.mark.parametrize("horizon", ["short", "long"])
def test_memory_thresholds_refuse_values_that_say_nothing_across_chunks(calibration: str, horizon: str) -> None:
    change = f"rewards.{horizon}.bright.calibration={calibration}"
    message = rf"rewards\.{horizon}\.bright\.calibration = '{calibration}' cannot be used with memory 'reward_feedback'"
    with pytest.raises(RecipeError, match=message):
        streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[change])
    streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[change, "memory.name=fixed"])
    streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[change, f"rewards.{horizon}.bright.weight=0"])


def test_scores_of_several_chunks_refuse_them_too() -> None:
    change = ["rewards.short.bright.calibration=rank", "memory.name=fixed"]
    with pytest.raises(RecipeError, match=r"cannot be used with scoring 'hybrid'.* or scoring\.window=1\."):
        streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[*change, "scoring.window=null"])
    streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[*change, "scoring.window=1"])


@pytest.mark.parametrize("calibration", ["none", "running", "{mean: 1, std: 2}"])
def test_memory_thresholds_take_comparable_values(calibration: str) -> None:
    streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[f"rewards.long.bright.calibration={calibration}"])
