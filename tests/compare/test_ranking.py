"""Correlations, spreads and the weights that follow."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamt1_plugins.compare import ranking


def test_correlations() -> None:
    assert ranking.rank_correlation([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    assert ranking.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert ranking.rank_correlation([1, 1, 2, 2], [1, 1, 2, 2]) == pytest.approx(1)
    for unknown in ([1.0, 1.0], [math.nan, 1.0]):
        assert math.isnan(ranking.rank_correlation([1.0, 2.0], unknown))


def test_the_spread_is_that_within_groups() -> None:
    assert ranking.spread([[0.0, 2.0], [100.0, 102.0, math.nan]]) == pytest.approx(math.sqrt(2))
    assert ranking.spread([[1.0], [math.nan], []]) == 0.0


def test_weights_are_correlations_and_without_a_positive_one_there_are_none() -> None:
    assert ranking.weights({"a": 0.5, "b": 0.25, "c": -0.4}) == {"a": 0.5, "b": 0.25, "c": 0.0}
    assert ranking.weights({"a": -0.5, "b": 0.0}) == {}
    assert ranking.weights({}) == {}


def test_weights_of_unrelated_rewards_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(4000, 3)) * [1.0, 5.0, 0.1]
    judge = rewards @ [0.5, 0.2, 0.0] + rng.normal(size=4000)
    correlations = {str(i): ranking.rank_correlation(rewards[:, i], judge) for i in range(3)}
    found = ranking.weights(correlations)
    best = np.linalg.lstsq(rewards / rewards.std(0), judge, rcond=None)[0]
    assert found["1"] / found["0"] == pytest.approx(best[1] / best[0], rel=0.1)
