"""Rewards are loaded, offloaded and reset as the recipe says, and checked before a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from tests.toy import Bright, ToyPipeline


def shown(*overrides: str, recipe: str = "stream-t1", **rewards: streamt1.Reward) -> streamt1.StreamPipeline:
    """A run with a reward of its own on each horizon, which `calls` reads: `in_short` and `in_long`."""
    seen = {"in_short": Bright(), "in_long": Bright(), **rewards}
    named = ("rewards.short.in_short={}", "rewards.long.in_long={}")
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=(*named, *overrides), rewards=seen)
    pipe("a prompt")
    pipe.seen = seen
    return pipe


def calls(pipe: streamt1.StreamPipeline, horizon: str) -> list[Any]:
    """The inputs of a horizon's reward, in order."""
    found: list[Any] = pipe.seen[f"in_{horizon}"].calls
    return found


def run_with(reward: streamt1.Reward, *overrides: str, horizon: str = "short") -> streamt1.StreamPipeline:
    """A run of the toy in which `reward` counts on one horizon, as `mine`; the toy's own reward on the other one."""
    other = "long" if horizon == "short" else "short"
    named = [f"rewards.{horizon}.mine={{}}", *([] if overrides else [f"rewards.{other}.bright={{}}"])]
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[*named, *overrides], rewards={"mine": reward})
    pipe("a prompt")
    return pipe


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


def logged(*overrides: str, runs: int = 1) -> list[str]:
    reward = Logged()
    named = ("rewards.short.mine={}", "rewards.long.bright={}")
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=(*named, *overrides), rewards={"mine": reward})
    for _ in range(runs):
        pipe("a prompt", chunks=2)
    return reward.log


def test_a_reward_is_loaded_once_and_reset_before_and_after_every_run() -> None:
    each = ["reset", "score 4", "score 4", "reset"]
    assert logged(runs=2) == ["load cpu", *each, *each]


def test_a_reward_can_leave_the_device_between_chunks() -> None:
    each = ["load cpu", "score 4", "unload"]
    assert logged("rewards.short.mine.offload=true") == ["reset", *each, *each, "reset"]


def test_a_reward_can_be_freed_when_a_run_ends() -> None:
    each = ["load cpu", "reset", "score 4", "score 4", "reset", "unload"]
    assert logged("rewards.short.mine.unload=true", runs=2) == [*each, *each]


def test_a_reward_can_have_a_device_of_its_own() -> None:
    assert logged("rewards.short.mine.device=meta")[0] == "load meta"
    pipe = shown("rewards.short.in_short.device=meta", "rewards.short.in_short.on_error=skip")
    assert {call.video.device.type for call in calls(pipe, "short")} == {"meta"}
    assert {call.video.device.type for call in calls(pipe, "long")} == {"cpu"}


def test_a_reward_that_needs_a_prompt_is_refused_without_one() -> None:
    class Reader(Bright):
        needs_prompt = True

    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", rewards={"mine": Reader()})
    with pytest.raises(InputError, match="Reward 'mine' judges by the prompt, and the prompt is empty"):
        pipe(" ")


def test_a_reward_that_is_not_deterministic_is_noted() -> None:
    class Moody(Bright):
        deterministic = False

    assert "Reward 'mine' is not deterministic" in run_with(Moody()).tree.notes[0]
