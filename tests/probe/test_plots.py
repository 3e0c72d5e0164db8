"""Plots of a probe: their tooltips have the figures, and what is unknown is not drawn."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from streamt1_plugins.compare.stats import Interval
from streamt1_plugins.probe import plots
from streamt1_plugins.probe.findings import Findings
from tests.probe.test_page import probed


@pytest.fixture
def found() -> Findings:
    return probed()[1].findings


def tooltips(svg: str) -> list[str]:
    return re.findall(r"<title>([^<]*)</title>", svg)


def test_shares_of_first_and_later_chunks(found: Findings) -> None:
    shares = {"first": {"initial": Interval(0.25, 0.2, 0.3, 6)}, "later": {"initial": Interval(0.001, 0, 0.01, 6)}}
    assert tooltips(plots.shares(replace(found, shares=shares))) == [
        "initial, first: 25.00% [20.00%, 30.00%]",
        "initial, later: 0.10% [0.00%, 1.00%]",
    ]


def test_gains_are_in_spreads(found: Findings) -> None:
    reward = replace(found.rewards["short.quality"], spread=2.0, gains={2: Interval(1.0, 0.5, 1.5, 6)})
    svg = plots.gains(replace(found, rewards={"short.quality": reward}))
    assert tooltips(svg) == ["short.quality, 2 candidates: +0.5 [+0.25, +0.75] spreads"]


def test_heritability_of_the_score_and_of_each_reward_by_what_is_reused(found: Findings) -> None:
    names = [each.partition(":")[0] for each in tooltips(plots.heritability(found))]
    assert names == ["score, initial", "score, all", "short.quality, initial", "short.quality, all"]


def test_routes_and_levels(found: Findings) -> None:
    assert [each.partition(":")[0] for each in tooltips(plots.routes(found))] == [*found.routes]
    assert len(tooltips(plots.levels(found))) == 2 * found.chunks
    assert "short.quality, plain, chunk 0: +0.00" in tooltips(plots.levels(found))


def test_what_is_unknown_is_not_drawn(found: Findings) -> None:
    bare = replace(found, shares={"first": {}, "later": {}}, rewards={}, score=None, routes={})
    assert {
        plots.shares(bare),
        plots.gains(bare),
        plots.heritability(bare),
        plots.routes(bare),
        plots.levels(bare),
    } == {""}
