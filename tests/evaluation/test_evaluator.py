"""What rewards are shown, and what becomes of what they say."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins import RewardOutput
from streamt1_plugins.api.shared_frames import once
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.evaluation.calibration import calibrate
from streamt1_plugins.testing import RewardContract
from tests.runs.shared import recorded
from tests.toy import Bright, ToyPipeline

# What a reward is shown.


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


def test_readings_keep_the_raw_value_and_the_weight() -> None:
    two = "{bright: {weight: 2, calibration: rank}, picky: {options: {chunk: 99}}}"
    pipe = run(f"rewards.short={two}", "memory.name=fixed")
    for node in pipe.tree:
        bright, picky = node.readings["short"]["bright"], node.readings["short"]["picky"]
        assert bright.raw == picky.raw == picky.value
        assert node.short == pytest.approx((2 * bright.value + picky.value) / 3)


def test_running_calibration_learns_from_every_candidate_measured_so_far() -> None:
    pipe = run("rewards.short.bright.calibration=running")
    raws = [node.readings["short"]["bright"].raw for node in pipe.tree]
    for index in range(4):
        known = raws[: 4 * (index + 1)]
        expected = calibrate(known[-4:], known[:-4], "running")
        assert [node.readings["short"]["bright"].value for node in pipe.tree.chunk(index)] == expected


# Failures.


def test_a_reward_without_weight_is_recorded_and_decides_nothing() -> None:
    quiet = run("rewards.short.bright={}", BOTH)
    pipe = run("rewards.short={picky: {weight: 0, options: {ordinals: [0]}}, bright: {}}", BOTH)
    assert [node.score for node in pipe.tree] == [node.score for node in quiet.tree]
    assert math.isnan(pipe.tree.chunk(1)[0].readings["short"]["picky"].raw)
    assert all(node.is_valid for node in pipe.tree)


# Vetoes.


def test_a_veto_removes_what_lies_below_and_says_why() -> None:
    pipe = run("search.candidates=4")
    raws = sorted(node.readings["short"]["bright"].raw for node in pipe.tree.chunk(0))
    limit = (raws[3] + raws[4]) / 2
    vetoed = run("search.candidates=4", f"rewards.short.bright.veto={limit}")
    nodes = vetoed.tree.chunk(0)
    assert [node.fate == "invalid" for node in nodes] == [
        node.readings["short"]["bright"].raw < limit for node in nodes
    ]
    assert any((node.problem or "").startswith("Vetoed by reward 'bright'") for node in nodes)


def test_a_veto_that_would_remove_everybody_is_ignored_and_noted() -> None:
    quiet, pipe = run(), run("rewards.short.bright.veto=9", BOTH)
    assert [node.score for node in pipe.tree] == [node.score for node in quiet.tree]
    assert pipe.tree.notes[0] == "Chunk 0: reward 'bright' vetoed every candidate, so its veto was ignored."


def test_a_veto_works_without_weight() -> None:
    pipe = run("rewards.short.picky={weight: 0, veto: -9, options: {ordinals: [0]}}")
    assert [node.is_valid for node in pipe.tree.chunk(1)] == [False, True, True, True]


# Loading, devices, batches.


def test_an_option_where_a_server_has_its_own_is_refused() -> None:
    place = "{where: 'http://127.0.0.1:9', options: {half: 1}}"
    with pytest.raises(RecipeError, match="takes its options where its server is started"):
        run(f"rewards.short={{flicker: {place}}}")


# Frames before the new ones, whole videos.


@dataclass
class Frames(streamt1.ImageReward):
    """An image reward: brightness, and how often it was asked."""

    asked: list[int] = field(default_factory=list)

    def score_frames(self, frames: torch.Tensor, prompts: tuple[str, ...]) -> torch.Tensor:
        assert len(prompts) == len(frames)
        self.asked.append(len(frames))
        return frames.mean((1, 2, 3))


class TestFrames(RewardContract):
    def make_reward(self) -> streamt1.Reward:
        return Frames(every=2, reduce="trimmed")


class FewFrames(Frames):
    batch_limit = 2


def test_an_image_reward_sees_every_frame_once_in_a_run() -> None:
    reward = Frames()
    pipe = run_with(reward, horizon="long")
    assert sum(reward.asked) == 16 * 3  # candidates times frames, whatever the window
    plain = run_with(Frames(cache_mb=0), horizon="long")
    assert [node.long for node in pipe.tree] == [node.long for node in plain.tree]
    assert pipe.tree.final == plain.tree.final


def test_an_image_reward_reduces_as_asked() -> None:
    video = torch.arange(12.0).view(1, 12, 1, 1, 1).expand(1, 12, 3, 2, 2) / 12
    inp = streamt1.RewardInput(video, ("a",), 8.0, 0, 1, slice(0, 12))
    found = {reduce: float(Frames(reduce=reduce).score(inp).scores) * 12 for reduce in ("mean", "min", "trimmed")}
    assert found == pytest.approx({"mean": 5.5, "min": 0.0, "trimmed": 5.5})
    assert float(Frames(every=5).score(inp).scores) * 12 == pytest.approx(5.0)
    few = FewFrames(every=5)
    assert few.score(inp).scores == Frames(every=5).score(inp).scores
    assert few.asked == [2, 1]


def test_a_misshapen_frame_score_is_named() -> None:
    class Odd(Frames):
        def score_frames(self, frames: torch.Tensor, prompts: tuple[str, ...]) -> torch.Tensor:
            return frames.mean()

    assert "score_frames returned shape ()" in (run_with(Odd()).tree.chunk(0)[0].problem or "")


def test_rewards_that_make_the_same_of_the_same_frames_make_it_once() -> None:
    made: list[int] = []

    def brightness(frames: torch.Tensor) -> torch.Tensor:
        made.append(len(frames))
        return frames.mean((1, 2, 3))

    class Sharing(Bright):
        def score(self, inp: Any) -> RewardOutput:
            rows = [once(inp.video[row], "brightness", brightness).mean() for row in range(len(inp.prompts))]
            return RewardOutput(torch.stack(rows))

    rewards = {"first": Sharing(), "second": Sharing()}
    overrides = [f"rewards.short.{name}={{}}" for name in rewards]
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides, rewards=rewards)
    pipe("a prompt", chunks=3)
    assert len(made) == 4 * 3
    for node in pipe.tree:
        assert node.readings["short"]["first"].raw == node.readings["short"]["second"].raw


def test_the_summary_has_a_line_per_reward(tmp_path: Path) -> None:
    recorded(tmp_path, chunks=3)
    found = json.loads((tmp_path / "summary.json").read_text())["reward_profile"]
    assert {name: spent["readings"] for name, spent in found.items()} == {"short.bright": 12, "long.bright": 14}
    assert all(spent["ms_per_candidate"] >= 0 for spent in found.values())
    assert "Reward long bright" in (tmp_path / "report.html").read_text(encoding="utf-8")
