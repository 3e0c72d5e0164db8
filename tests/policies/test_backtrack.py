"""Going back where the long reward of every candidate falls: when, how far, how often, at what cost."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.api.types import Horizon, Node, Reading
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.policies.backtrack import Backtrack, fall, last_good, lost_share
from streamt1_plugins.search.cost_estimate import at_most
from streamt1_plugins.testing.policy import PolicyContract
from tests.toy import SteppingAdapter, ToyPipeline

NAN = math.nan


def searched(*levels: float, chunks: int = 6, calibration: str = "none", **options: Any) -> streamt1.StreamPipeline:
    """A search whose long reward is that of the chunk's number."""
    script = {"options": {"levels": [*levels], "spreads": [0.1]}, "calibration": calibration}
    named = ", ".join(["name: backtrack", *(f"{name}: {value}" for name, value in options.items())])
    overrides = ["rewards.replace=true", f"rewards.long={json.dumps({'scripted': script})}", f"revision={{{named}}}"]
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides)
    pipe("a prompt", chunks=chunks)
    return pipe


@pytest.mark.parametrize(
    ("longs", "window", "expected"),
    [
        ([1.0, 0.2], 3, 0.8),
        ([5.0, 1.0, 0.2], 1, 0.8),
        ([5.0, 1.0, 0.2], 2, 4.8),
        ([1.0, 2.0], 3, -1.0),
        ([NAN, 1.0, 0.5], 2, 0.5),
    ],
)
def test_a_fall_is_measured_from_the_highest_of_the_window(longs: list[float], window: int, expected: float) -> None:
    assert fall(longs, window) == pytest.approx(expected)


def test_what_was_not_measured_is_no_fall() -> None:
    assert all(math.isnan(fall(longs, 3)) for longs in ([1.0], [NAN, 1.0], [1.0, NAN]))


def path(*raws: float, other: float = 1.0, weight: float = 0.0, horizon: Horizon = "long") -> list[Node]:
    """A branch by its raw rewards; `other` is that of a second reward in every chunk, which has a weight too."""
    return [
        Node(
            chunk=chunk,
            ordinal=0,
            parent=None,
            seed=0,
            readings={horizon: {"a": Reading(raw, 0.0), "b": Reading(other, 0.0, weight)}},
        )
        for chunk, raw in enumerate(raws)
    ]


@pytest.mark.parametrize(
    ("raws", "window", "expected"),
    [
        ([0.8, 0.6], 3, 0.25),
        ([2.0, 0.8, 0.6], 1, 0.25),
        ([2.0, 0.8, 0.6], 2, 0.7),
        ([0.5, 0.6], 3, -0.2),
        ([-1.0, -1.5], 3, 0.5),  # a reward without a natural zero: the size of what it fell from
        ([0.0, -2.0], 3, 2.0),
        ([NAN, 0.8, 0.6], 3, 0.25),
    ],
)
def test_the_share_that_a_branch_has_lost(raws: list[float], window: int, expected: float) -> None:
    assert lost_share(path(*raws), window) == pytest.approx(expected)
    assert lost_share(path(*raws, weight=3.0), window) == pytest.approx(expected / 4)
    assert lost_share(path(*raws, other=NAN), window) == pytest.approx(expected)


def test_what_was_not_measured_has_lost_no_share() -> None:
    assert all(math.isnan(lost_share(path(*raws), 3)) for raws in ([1.0], [NAN, 1.0], [1.0, NAN]))
    assert math.isnan(lost_share(path(1.0, 0.5, horizon="short"), 3))


@pytest.mark.parametrize(
    ("longs", "window", "expected"),
    [
        ([1.0, 1.0, 0.0], 3, 1),  # a sudden fall: the chunk before was good
        ([1.0, 0.6, 0.3, 0.0], 3, 0),  # a slow one: from where it began
        ([9.0, 1.0, 0.9, 0.0], 2, 2),
        ([0.9, 1.0, 0.3, 0.2], 3, 1),
    ],
)
def test_the_last_good_chunk(longs: list[float], window: int, expected: int) -> None:
    assert last_good(longs, window, slack=0.25) == expected


def test_a_sudden_fall_is_made_anew_and_a_slow_one_from_where_it_began() -> None:
    assert searched(1, 1, 1, 0, times=1).tree.returns == [(3, 3)]
    assert searched(1, 0.7, 0.4, 0.4, times=1).tree.returns == [(2, 1)]
    assert searched(1, 0.9, 0.8, 0.7, 0.6, 0.5).tree.returns == []
    assert searched(1, 0.9, 0.8, 0.7, 0.6, 0.5, threshold=0.35, window=5, times=1).tree.returns == [(4, 2)]


def test_it_goes_back_as_often_as_it_may() -> None:
    tree = searched(1, 1, 0, times=3, attempts=5).tree
    assert tree.returns == [(2, 2)] * 3
    assert next(note for note in tree.notes if "made anew" in note).endswith("The long reward fell by 1.000.")
    assert len(tree.abandoned(2)) == 3 * len(tree.chunk(2))


def test_a_fall_that_fresh_noise_does_not_avoid_is_accepted() -> None:
    assert searched(1, 1, 0, 0, 0, -1, times=9).tree.returns == [(2, 2), (5, 5)]
    assert searched(1, 1, 0, 0, 0, -1, times=9, attempts=2).tree.returns == [(2, 2)] * 2 + [(5, 5)] * 2


def test_a_fall_that_is_a_small_share_of_the_reward_is_none() -> None:
    """Its noise exceeds the threshold where the run's own spread is the unit."""
    calibrated = {"calibration": "running"}
    assert searched(9, 9, 9, 8.7, **calibrated).tree.returns == [(3, 3)]
    assert searched(9, 9, 9, 8.7, **calibrated, share=0.1).tree.returns == []
    tree = searched(9, 9, 9, 6.75, **calibrated, share=0.1).tree
    assert tree.returns == [(3, 3)]
    assert next(note for note in tree.notes if "made anew" in note).endswith(", the raw one by 25%.")


def test_each_return_from_a_chunk_may_go_further_back() -> None:
    """As far as the window reaches, and every chunk has attempts of its own."""
    options = {"times": 9, "attempts": 4, "further": 1, "window": 3}
    assert searched(1, 1, 1, 1, 0, 0, **options).tree.returns == [(4, 4), (4, 3), (4, 2), (4, 2)]
    assert searched(1, 0, 1, 1, **options).tree.returns == [(1, 1), (1, 0), (1, 0), (1, 0)]
    assert searched(1, 1, 1, 1, 0, 0, **{**options, "further": 2}).tree.returns == [(4, 4), (4, 2), (4, 2), (4, 2)]


def test_one_candidate_that_has_not_fallen_is_enough() -> None:
    assert searched(1, 0.45, threshold=0.6).tree.returns == []  # the odd ones are .1 lower


def test_the_estimate_is_a_bound() -> None:
    recipe = streamt1.wrap(ToyPipeline(), "stream-t1", adapter="toy-steps", overrides=["revision=backtrack"]).recipe
    rewards, policies = build.rewards(recipe), build.policies(recipe)
    outline = SteppingAdapter().outline()
    base, most = at_most(recipe, rewards, outline, {}), at_most(recipe, rewards, outline, policies)
    assert (base.chunks, most.chunks) == (4, 4)
    assert most.candidates == base.candidates + 2 * 3 * 4
    assert most.forwards == (base.forwards or 0) + 2 * (6 + 4 + 4) * 4
    pipe = searched(1, 1, 1, 0, 0, chunks=4)
    assert pipe.last_run.cost.candidates <= pipe.cost(prompt="a prompt").candidates


def test_rewards_that_do_not_compare_chunks_are_refused() -> None:
    overrides = ["memory=fixed", "revision=backtrack", "rewards.long.bright.calibration=rank"]
    with pytest.raises(RecipeError, match="revision 'backtrack', which compares the rewards of different chunks"):
        streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides)


class TestBacktrack(PolicyContract):
    kind = "revision"

    def make_policy(self) -> Backtrack:
        return Backtrack(threshold=-10.0, good=0.0)  # no recipe may have it: every chunk has fallen by more

    def test_it_goes_back_in_the_searches_of_the_contract(self) -> None:
        assert len(self.searched().tree.returns) == 2


class TestBacktrackFurther(PolicyContract):
    kind = "revision"

    def make_policy(self) -> Backtrack:
        return Backtrack(threshold=-10.0, share=-10.0, good=0.0, attempts=3, times=3, further=1)

    def test_it_goes_further_back_in_the_searches_of_the_contract(self) -> None:
        returns = self.searched().tree.returns
        assert len(returns) == 3
        assert any(to < first for (chunk, first), (again, to) in pairwise(returns) if chunk == again)
