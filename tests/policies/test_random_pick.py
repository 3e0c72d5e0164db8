"""Survivors by chance: uniform, fixed by the seed, and in need of no reward."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.plugins.resolve import resolve
from streamt1_plugins.policies.noise import fresh_seed
from streamt1_plugins.policies.random_pick import RandomPick, uniform
from streamt1_plugins.testing import PolicyContract
from tests.toy import ToyPipeline


def run(*overrides: str, seed: int = 0, **options: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), "random-pick", overrides=overrides, **options)
    pipe.video = pipe("a prompt", chunks=6, generator=torch.Generator().manual_seed(seed))
    return pipe


def test_draws_are_uniform_and_belong_to_no_candidate() -> None:
    drawn = [uniform(seed, chunk, index) for seed in range(10) for chunk in range(10) for index in range(10)]
    assert all(0 <= each < 1 for each in drawn)
    assert len(set(drawn)) == 1000
    assert sum(drawn) / 1000 == pytest.approx(0.5, abs=0.03)
    assert uniform(3, 2, 1) == uniform(3, 2, 1)
    assert not {fresh_seed(3, 2, parent, 1) / 2**63 for parent in range(100)} & {uniform(3, 2, 1)}


def test_every_candidate_is_picked_equally_often() -> None:
    picked: Counter[int] = Counter()
    for seed in range(60):
        nodes = [node for node in run(seed=seed).tree if node.rank == 0]
        picked.update(node.ordinal for node in nodes)
    assert sum(picked.values()) == 360
    assert all(60 <= picked[ordinal] <= 120 for ordinal in range(4))  # 90 expected, 8 the standard deviation


def test_the_candidates_of_the_first_chunk_are_those_of_the_search_it_controls() -> None:
    ours, theirs = run().tree.chunk(0), streamt1.wrap(ToyPipeline(), "stream-t1")
    theirs("a prompt", chunks=6, generator=torch.Generator().manual_seed(0))
    assert [node.seed for node in ours] == [node.seed for node in theirs.tree.chunk(0)]
    assert [len(run().tree.chunk(index)) for index in range(6)] == [4] * 6


def test_no_reward_is_needed_and_none_is_taken() -> None:
    pipe = run()
    assert not pipe.recipe.rewards.are_named
    assert pipe.last_run.cost.readings == 0
    assert not any(node.readings for node in pipe.tree)
    bare = streamt1.wrap(ToyPipeline(), "random-pick", adapter="toy-bare")
    bare("a prompt")
    assert len(bare.tree) == 16
    with pytest.raises(RecipeError, match="suggests none"):
        streamt1.wrap(ToyPipeline(), "stream-t1", adapter="toy-bare")
    assert resolve(pipe.recipe, "toy") == resolve("random-pick", "toy")


def test_a_reward_that_is_named_is_measured_and_decides_nothing() -> None:
    blind, seeing = run(), run("rewards.long.bright={}", "rewards.short.scripted={}")
    assert torch.equal(blind.video, seeing.video)
    assert blind.tree.winner == seeing.tree.winner
    assert all({"short", "long"} == node.readings.keys() for node in seeing.tree)


def test_it_makes_no_close_calls() -> None:
    assert not run("search.batch=4").tree.notes


class TestRandomPick(PolicyContract):
    kind = "selection"

    def make_policy(self) -> RandomPick:
        return RandomPick()
