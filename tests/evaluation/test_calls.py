"""Calls of one reward: batches, failures, wrong answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError
from tests.toy import Bright, ToyPipeline


def run(*overrides: str, recipe: str = "stream-t1", **call: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides)
    pipe("a prompt", **call)
    return pipe


BOTH = "rewards.long.bright={}"


def run_with(reward: streamt1.Reward, *overrides: str, horizon: str = "short") -> streamt1.StreamPipeline:
    """A run of the toy in which `reward` counts on one horizon, as `mine`; the toy's own reward on the other one."""
    other = "long" if horizon == "short" else "short"
    named = [f"rewards.{horizon}.mine={{}}", *([] if overrides else [f"rewards.{other}.bright={{}}"])]
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[*named, *overrides], rewards={"mine": reward})
    pipe("a prompt")
    return pipe


@dataclass
class ScoresList(streamt1.Reward):
    """Returns what is not a tensor."""

    def score(self, inp: Any) -> Any:
        return streamt1.RewardOutput([0.0] * len(inp.prompts))  # type: ignore[arg-type]


def test_scores_that_are_no_tensor_cost_the_candidates_not_the_run() -> None:
    pipe = run_with(ScoresList())
    assert "Reward 'mine' failed: AttributeError" in (pipe.tree.chunk(0)[0].problem or "")


class Flaky(Bright):
    """Fails in one chunk, whatever it is asked about."""

    def score(self, inp: Any) -> Any:
        if inp.chunk == 1:
            raise ZeroDivisionError("no luck")
        return super().score(inp)


def test_a_failing_reward_can_be_left_out_for_all_candidates_of_the_chunk() -> None:
    other = "rewards.short.picky={weight: 3, options: {chunk: 99}}"
    pipe = run_with(Flaky(), "rewards.short.mine.on_error=skip", other)
    assert [set(node.readings["short"]) for node in pipe.tree.chunk(1)] == [{"picky"}] * 4
    assert [set(node.readings["short"]) for node in pipe.tree.chunk(2)] == [{"picky", "mine"}] * 4
    assert all(node.short == pytest.approx(node.readings["short"]["picky"].value) for node in pipe.tree.chunk(1))
    assert [node.problem for node in pipe.tree] == [None] * 16
    (note,) = pipe.tree.notes
    assert note.startswith("Reward 'mine' failed and was left out where it did, first in chunk 1: ")
    assert "ZeroDivisionError: no luck" in note


def test_a_horizon_whose_only_reward_is_left_out_counts_as_not_measured() -> None:
    pipe = run_with(Flaky(), "rewards.short.mine.on_error=skip", BOTH)
    assert all(math.isnan(node.short) and node.score == node.long for node in pipe.tree.chunk(1))


def test_a_failing_reward_can_end_the_run() -> None:
    with pytest.raises(PluginError, match="Reward 'mine' failed: ZeroDivisionError: no luck"):
        run_with(Flaky(), "rewards.short.mine.on_error=raise")


def test_by_default_a_failing_reward_costs_candidates_and_the_run_goes_on() -> None:
    pipe = run_with(Flaky())
    assert [node.fate for node in pipe.tree.chunk(1)] == ["kept", "invalid", "invalid", "invalid"]
    assert len(pipe.tree.winner) == 4
    assert "no valid candidate" in pipe.tree.notes[0]


def test_a_candidate_the_reward_calls_not_valid_is_invalid() -> None:
    class Unsure(Bright):
        def score(self, inp: Any) -> Any:
            scores = super().score(inp).scores
            return streamt1.RewardOutput(scores, valid=torch.arange(len(scores)) != 2)

    pipe = run_with(Unsure())
    assert [node.is_valid for node in pipe.tree.chunk(0)] == [True, True, False, True]


@dataclass
class Logged(Bright):
    """Keeps a log of what is done to it."""

    log: list[str] = field(default_factory=list)

    def load(self, device: str) -> None:
        self.log.append(f"load {device}")

    def score(self, inp: Any) -> Any:
        self.log.append(f"score {len(inp.prompts)}")
        return super().score(inp)

    def unload(self) -> None:
        self.log.append("unload")

    def reset(self) -> None:
        self.log.append("reset")


def test_the_batch_limit_of_a_reward_is_obeyed() -> None:
    class Narrow(Logged):
        batch_limit = 3

    reward = Narrow()
    pipe = run_with(reward)
    assert [entry for entry in reward.log if entry.startswith("score")] == ["score 3", "score 1"] * 4
    assert [node.score for node in pipe.tree] == [node.score for node in run().tree]
