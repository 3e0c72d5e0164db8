"""The statistics of a probe, against values known from theory and against simulation."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
import torch

from streamt1_plugins.probe import formulas


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 0.0), (2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi)), (4, 1.02938), (8, 1.42360), (16, 1.76599)],
)
def test_the_best_of_normal_values(count: int, expected: float) -> None:
    assert formulas.expected_best(count) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_best_of_some_is_the_mean_over_all_ways_to_draw_them(count: int) -> None:
    scores, values = [0.3, 2.0, -1.0, 0.9, 0.1], [5.0, 1.0, 2.0, 9.0, 4.0]
    every = [max(drawn, key=lambda index: scores[index]) for drawn in combinations(range(5), count)]
    assert formulas.best_of(scores, values, count) == pytest.approx(fmean(values[index] for index in every))


def test_the_lead_over_the_candidates_mean_is_unbiased() -> None:
    groups = np.random.default_rng(2).normal(size=(3000, 6))
    for count in (2, 4, 6):
        leads = [formulas.best_of(group, group, count) - group.mean() for group in groups]
        assert fmean(leads) == pytest.approx(formulas.expected_best(count), abs=0.03)


def test_more_than_were_measured_lead_as_normal_values_do() -> None:
    values = [0.0, 1.0, 2.0, 3.0]
    lead = formulas.best_of(values, values, 4) - 1.5
    assert formulas.best_of(values, values, 16) == pytest.approx(1.5 + lead * 1.76599 / 1.02938, abs=1e-4)


def test_what_could_not_be_judged_is_never_chosen() -> None:
    assert formulas.best_of([1.0, math.nan, 3.0], [5.0, 99.0, 7.0], 2) == pytest.approx(7.0)
    assert math.isnan(formulas.best_of([math.nan], [1.0], 1))


def test_a_draw_owns_its_share_of_the_variance() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 400)), rng.normal(size=(2, 400))
    whole = np.abs((first[0] * 0.6 + second[0] * 0.8) - (first[1] * 0.6 + second[1] * 0.8))
    assert formulas.share(np.abs(first[0] - first[1]) * 0.6, whole) == pytest.approx(0.36, abs=0.05)
    assert formulas.share([0.0], [0.0]) == 0


def test_without_heritability_fresh_noise_is_best() -> None:
    assert formulas.best_sigma(0.0, 6) == 0
    assert formulas.best_sigma(-0.5, 6) == -formulas.best_sigma(0.5, 6) < 0


@pytest.mark.parametrize("heritability", [0.3, 0.7, 1.0])
def test_leads_are_those_of_a_simulated_search(heritability: float) -> None:
    """Quality is linear in the noise, along a direction that turns from chunk to chunk."""
    rng, chunks, width, sigma = np.random.default_rng(1), 5, 4, formulas.best_sigma(heritability, 5)
    turn = math.sqrt(1 - heritability**2)
    found = np.zeros(chunks)
    for _ in range(3000):
        parent, along = np.zeros(chunks + 1), np.eye(chunks + 1)[0]
        for chunk in range(chunks):
            mixing = sigma if chunk else 0.0
            children = mixing * parent + math.sqrt(1 - mixing**2) * rng.normal(size=(width, chunks + 1))
            parent = children[np.argmax(children @ along)]
            found[chunk] += parent @ along / 3000
            along = heritability * along + turn * np.eye(chunks + 1)[chunk + 1]
    expected = np.array(formulas.leads(sigma, heritability, chunks)) * formulas.expected_best(width)
    # Leads of the chunks before the parent add a little more, which the formula leaves out.
    assert found == pytest.approx(expected, rel=0.08)


def test_the_best_sigma_beats_its_neighbours() -> None:
    def mean(sigma: float) -> float:
        return fmean(formulas.leads(sigma, 0.6, 8))

    best = formulas.best_sigma(0.6, 8)
    assert mean(best) >= max(mean(best - 0.01), mean(best + 0.01))
    assert 0.5 < best < 0.7


def test_slopes_and_distances() -> None:
    assert formulas.slope([1.0, 3.0, 5.0]) == pytest.approx(2)
    assert math.isnan(formulas.slope([1.0]))
    assert formulas.distance(torch.zeros(2, 2), torch.full((2, 2), 2.0)) == pytest.approx(2)
    assert formulas.rms([]) == 0
