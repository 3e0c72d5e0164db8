"""Paired statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamt1_plugins.compare import stats
from streamt1_plugins.compare.stats import ENOUGH_PROMPTS, Interval
from tests.compare.examples import row


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(100):
        found = stats.bootstrap({str(p): [v] for p, v in enumerate(rng.normal(0.3, 1, 40))}, seed=i)
        hits += found.low <= 0.3 <= found.high
    assert 88 <= hits <= 99


def test_seeds_of_one_prompt_are_not_independent_evidence() -> None:
    one = stats.bootstrap({"a": [0.0], "b": [1.0], "c": [0.5]})
    many = stats.bootstrap({"a": [0.0] * 9, "b": [1.0] * 9, "c": [0.5] * 9})
    assert (one.low, one.high) == (many.low, many.high)


def test_paired_differences_and_wins() -> None:
    base = {("a", 0): 0.5, ("a", 1): 0.5, ("b", 0): 1.0}
    other = {("a", 0): 0.75, ("a", 1): 0.5, ("c", 0): 9.0}
    differences = stats.paired(base, other)
    assert differences == {"a": [0.25, 0.0]}
    assert stats.wins(differences) == {"better": 1, "equal": 1, "worse": 0}


def test_a_column_holds_the_rows_of_a_recipe_that_have_the_metric() -> None:
    rows = [row("plain", "a", 0.5), row("plain", "b", None), row("beam", "a", 0.7), row("plain", "a", 0.6, seed=1)]
    found = stats.column(rows, "plain", "score")
    assert found == {("a", 0): 0.5, ("a", 1): 0.6}
    assert stats.grouped(found) == {"a": [0.5, 0.6]}
    assert stats.column(rows, "plain", "jerk") == {}


def test_a_word_of_caution_names_how_often_an_interval_of_so_few_holds() -> None:
    assert stats.caution(stats.FEW) is None
    assert "about 81 of 100 comparisons" in (stats.caution(4) or "")
    assert "about 81 of 100 comparisons" in (stats.caution(5) or "")
    assert (stats.caution(1) or "").startswith("One prompt shows nothing about others")


def test_the_coverage_is_that_of_our_intervals() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        found = stats.bootstrap({str(i): [value] for i, value in enumerate(rng.normal(size=4))})
        held += found.low <= 0 <= found.high
    assert held / 2 == pytest.approx(stats.COVERAGE[4], abs=8)


def test_intervals_of_few_values() -> None:
    assert Interval.of([]).prompts == 0
    one = Interval.of([1.0, math.nan])
    assert (one.mean, one.low, one.high, one.prompts) == (1, 1, 1, 1)
    assert not one.is_above_zero
    assert Interval.of([1.0] * ENOUGH_PROMPTS).is_above_zero
    assert not Interval.of([1.0] * (ENOUGH_PROMPTS - 1)).is_above_zero
    two = Interval.of([0.0, 2.0])
    assert two.low < -3 < 5 < two.high


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.182), (5, 2.571), (11, 2.201), (1000, 1.962)])
def test_students_quantile(freedom: int, quantile: float) -> None:
    assert stats.student(freedom) == pytest.approx(quantile, rel=0.01)
