"""Findings on toy models built to have a property, or to lack it."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest

from streamt1_plugins.probe.findings import Findings, findings
from streamt1_plugins.probe.measure import ProbeOptions, probe_prompt
from tests.probe.models import Model, Quality, measurement

PROMPTS = 8
OPTIONS = ProbeOptions(candidates=6, chunks=5)


def found(model: Model, *, prompts: int = PROMPTS, **rewards: Any) -> Findings:
    every = [probe_prompt(measurement(model, f"p{index}", options=OPTIONS, **rewards)) for index in range(prompts)]
    return findings(every)


@cache
def inherits() -> Findings:
    """The last draw owns nearly everything, and what is good noise stays so."""
    return found(Model(shares=(0.05, 0.95)))


@cache
def keeps() -> Findings:
    """One draw, good only once; what was chosen lasts, sinks raise the quality, and it drifts."""
    return found(Model(turning=True, carry=0.7, anchor=0.5, drift=0.2))


def test_shares_are_those_the_model_was_built_with() -> None:
    for part in ("first", "later"):
        shares = inherits().shares[part]
        assert shares["initial"].mean == pytest.approx(0.05, abs=0.02)
        assert shares["step 2"].mean == pytest.approx(0.95, abs=0.1)
    assert keeps().shares["later"]["initial"].mean == pytest.approx(1)


def test_noise_is_heritable_or_not() -> None:
    assert inherits().rewards["short.quality"].heritability["all"].low > 0.95
    assert abs(inherits().rewards["short.quality"].heritability["initial"].mean) < 0.4
    assert list(keeps().rewards["short.quality"].heritability) == ["initial"]
    assert not keeps().rewards["short.quality"].heritability["initial"].low > 0


def test_choices_last_or_not() -> None:
    kept, lost = (each.rewards["short.quality"].carried for each in (keeps(), inherits()))
    assert kept.low > 0.5
    assert lost.mean == pytest.approx(0, abs=1e-6)


def test_gains_are_order_statistics_where_nothing_lasts() -> None:
    gains = inherits().rewards["short.quality"].gains
    for count, expected in {2: 0.564, 4: 1.029, 8: 1.424, 16: 1.766}.items():
        assert gains[count].mean / inherits().rewards["short.quality"].spread == pytest.approx(expected, rel=0.1)
    assert keeps().rewards["short.quality"].gains[4].low > gains[4].high  # what lasts adds up


def test_routes_act_or_not_and_help_or_not() -> None:
    helps, harms = keeps().routes, found(Model(anchor=-0.5), prompts=6).routes
    assert helps["append"].benefit.is_above_zero
    assert harms["append"].benefit.is_below_zero
    assert helps["ema 0.999"].effect.mean < 0.01 < helps["append"].effect.mean
    # Two chunks have left the window; a part of what the first of them added was kept from the chunk before.
    assert helps["append"].raised["short.quality"].mean == pytest.approx(2 * 0.5 - 0.7 * 0.5, abs=0.01)
    assert inherits().routes["append"].effect.mean == 0


def test_routes_beyond_the_paper_are_measured_too() -> None:
    routes = found(Model(anchor=0.5, further={"replace": 2.0, "flush": -1.0}), prompts=6).routes
    assert list(routes) == ["ema 0.999", "append", "flush", "replace", "ema 0.9", "ema 0.5"]
    assert routes["replace"].benefit.low > routes["append"].benefit.mean > 0 > routes["flush"].benefit.high


def test_drift_is_found() -> None:
    assert keeps().rewards["short.quality"].drift.high < 0
    assert inherits().rewards["short.quality"].drift.low < 0 < inherits().rewards["short.quality"].drift.high


def test_spread_and_repeat_error_are_told_apart() -> None:
    each = found(Model(), good=Quality(), rough=Quality(error=1.0), blind=Quality(weight=0, error=1.0)).rewards
    assert each["short.good"].error == 0
    assert each["short.good"].reliability.low == pytest.approx(1)
    assert each["short.rough"].error == pytest.approx(1, rel=0.2)
    assert each["short.rough"].spread == pytest.approx(math.sqrt(2), rel=0.2)
    assert each["short.rough"].reliability.mean == pytest.approx(0.5, abs=0.2)
    assert not each["short.blind"].reliability.is_above_zero
    assert each["short.rough"].gains[8].low < each["short.good"].gains[8].high  # true gains, errors taken out
    assert abs(each["short.blind"].gains[8].mean) < 0.3


def test_a_reward_that_never_varies_has_no_reliability() -> None:
    each = found(Model(), prompts=2, flat=Quality(weight=0)).rewards["short.flat"]
    assert each.spread == 0
    assert math.isnan(each.reliability.mean)
    assert not each.reliability.is_above_zero


def test_findings_are_plain_data() -> None:
    data = found(Model(routed=False, chunks=1), prompts=1).as_dict()
    assert data["prompts"] == 1
    assert data["routes"] == {}
    assert data["rewards"]["short.quality"]["drift"]["mean"] is None
    assert data["rewards"]["short.quality"]["gains"]["4"]["prompts"] == 1
