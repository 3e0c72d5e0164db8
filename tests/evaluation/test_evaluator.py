"""What rewards are shown, and what becomes of what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import ContractError, InputError, PluginError, RecipeError
from streamt1_plugins.evaluation.calibration import calibrate
from streamt1_plugins.evaluation.inputs import quantise
from streamt1_plugins.evaluation.purity import purity_check
from streamt1_plugins.testing import RewardContract
from tests.toy import Bright, ToyPipeline

NAN = math.nan


def same(got: list[float], expected: list[float]) -> bool:
    return got == pytest.approx(expected, nan_ok=True)


def test_pixels_are_truncated_as_in_a_png() -> None:
    video = torch.tensor([0.0, 0.999 / 255, 1.0001 / 255, 0.5, 1.0])
    assert torch.equal(quantise(video) * 255, torch.tensor([0.0, 0.0, 1.0, 127.0, 255.0]))


# What a reward is shown.


def run(*overrides: str, recipe: str = "stream-t1", **call: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides)
    pipe("a prompt", **call)
    return pipe


def shown(*overrides: str, recipe: str = "stream-t1", **rewards: streamt1.Reward) -> streamt1.StreamPipeline:
    """A run with a reward of its own on each horizon, which `calls` reads: `in_short` and `in_long`."""
    seen = {"in_short": Bright(), "in_long": Bright(), **rewards}
    named = ("rewards.short.in_short={}", "rewards.long.in_long={}")
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=(*named, *overrides), rewards=seen)
    pipe("a prompt")
    pipe.seen = seen
    return pipe


BOTH = "rewards.long.bright={}"


def calls(pipe: streamt1.StreamPipeline, horizon: str) -> list[Any]:
    """The inputs of a horizon's reward, in order."""
    found: list[Any] = pipe.seen[f"in_{horizon}"].calls
    return found


def test_short_is_the_chunk_and_long_the_window_that_ends_with_it() -> None:
    pipe = shown("rewards.window=2")
    assert [tuple(inp.video.shape) for inp in calls(pipe, "short")] == [(4, 3, 3, 2, 2)] * 4
    chunks, whole = calls(pipe, "long")[:4], calls(pipe, "long")[4]
    assert [inp.video.shape[1] for inp in chunks] == [3, 6, 6, 6]
    assert [inp.new_frames for inp in chunks] == [slice(0, 3), *[slice(3, 6)] * 3]
    assert [(inp.chunk, inp.chunk_count, inp.fps) for inp in chunks] == [(i, 4, 8.0) for i in range(4)]
    assert all(inp.prompts == ("a prompt",) * 4 for inp in chunks)
    for short, long in zip(calls(pipe, "short"), chunks, strict=True):
        assert torch.equal(short.video, long.video[:, long.new_frames])
    assert whole.video.shape[:2] == (2, 12)


def test_the_window_holds_the_frames_of_the_candidates_own_branch() -> None:
    pipe = shown("rewards.window=3")
    pixels = {}
    for inp in calls(pipe, "short"):
        for video, ids in zip(inp.video, inp.frame_ids, strict=True):
            pixels.update(zip(ids, video, strict=True))
    for inp in calls(pipe, "long")[:4]:
        for video, ids in zip(inp.video, inp.frame_ids, strict=True):
            lineage = [node.id for node in pipe.tree.path(ids[-1][0])][-3:]
            assert ids == tuple((node, frame) for node in lineage for frame in range(3))
            assert all(torch.equal(frame, pixels[key]) for key, frame in zip(ids, video, strict=True))


def test_the_anchor_is_the_first_chunk_of_the_candidates_own_branch() -> None:
    pipe = shown(recipe="best-of-n")  # four branches that never meet
    first, *later = calls(pipe, "short")
    assert first.anchor is None
    roots = {node.id: first.video[node.ordinal] for node in pipe.tree.chunk(0)}
    for inp in later:
        for row, ids in enumerate(inp.frame_ids):
            assert torch.equal(inp.anchor[row], roots[pipe.tree.path(ids[0][0])[0].id])
    assert len({tuple(anchor.flatten().tolist()) for anchor in later[-1].anchor}) > 1


def test_a_cold_decode_has_no_lineage_keys_because_its_pixels_differ() -> None:
    pipe = shown("rewards.decode=cold")
    assert {inp.frame_ids for inp in calls(pipe, "short")} == {()}
    assert all(torch.equal(inp.anchor[0], pipe.run.beams[0].history.frames[0]) for inp in calls(pipe, "long")[-1:])


def test_rewards_cannot_reach_the_video_through_their_input() -> None:
    frames = {}

    class Watch:
        @streamt1.hookimpl
        def streamt1_candidate_scored(self, candidate: Any) -> None:
            frames[candidate.id] = candidate.decoded.frames

    reward = Bright()
    streamt1.wrap(ToyPipeline(), "stream-t1", observers={"watch": Watch()}, rewards={"mine": reward})("a prompt")
    storages = {tensor.untyped_storage().data_ptr() for tensor in frames.values()}
    assert storages.isdisjoint(inp.video.untyped_storage().data_ptr() for inp in reward.calls)


@pytest.mark.parametrize("what", ["video", "anchor"])
def test_a_reward_that_changes_its_input_ends_the_run_and_is_named(what: str) -> None:
    class Vandal(Bright):
        def score(self, inp: Any) -> Any:
            out = super().score(inp)
            if getattr(inp, what) is not None:
                getattr(inp, what).zero_()
            return out

    with pytest.raises(ContractError, match="Reward 'mine' changed its input in place"):
        run_with(Vandal())


def test_a_reward_that_draws_global_random_numbers_is_named_and_the_state_put_back() -> None:
    class Gambler(Bright):
        def score(self, inp: Any) -> Any:
            return streamt1.RewardOutput(torch.rand(len(inp.prompts)))

    before = torch.get_rng_state()
    with pytest.raises(ContractError, match="Reward 'mine' drew from torch's global random generator"):
        run_with(Gambler())
    assert torch.equal(before, torch.get_rng_state())


def test_the_watch_sees_changes_torch_does_not_count() -> None:
    """Tensors made under inference_mode have no version counter, and `data` goes around it."""
    with torch.inference_mode():
        uncounted = torch.full((1, 2, 3, 4, 4), math.nan)
    for video in (uncounted, torch.rand(1, 2, 3, 4, 4)):
        inp = streamt1.RewardInput(video, ("a",), 8.0, 0, 1, slice(0, 2))
        with purity_check("Reward 'x'", inp):
            pass
        with pytest.raises(ContractError), purity_check("Reward 'x'", inp), torch.inference_mode():
            inp.video.data.fill_(3.0)


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


@dataclass
class ScoresList(streamt1.Reward):
    """Returns what is not a tensor."""

    def score(self, inp: Any) -> Any:
        return streamt1.RewardOutput([0.0] * len(inp.prompts))  # type: ignore[arg-type]


def test_scores_that_are_no_tensor_cost_the_candidates_not_the_run() -> None:
    pipe = run_with(ScoresList())
    assert "Reward 'mine' failed: AttributeError" in (pipe.tree.chunk(0)[0].problem or "")


# Failures.


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


def test_a_reward_is_loaded_once_and_reset_before_every_run() -> None:
    scores = ["score 4", "score 4"]
    assert logged(runs=2) == ["load cpu", "reset", *scores, "reset", *scores]


def test_a_reward_can_leave_the_device_between_chunks() -> None:
    each = ["load cpu", "score 4", "unload"]
    assert logged("rewards.short.mine.offload=true") == ["reset", *each, *each]


def test_a_reward_can_be_freed_when_a_run_ends() -> None:
    each = ["load cpu", "reset", "score 4", "score 4", "unload"]
    assert logged("rewards.short.mine.unload=true", runs=2) == [*each, *each]


def test_a_reward_can_have_a_device_of_its_own() -> None:
    assert logged("rewards.short.mine.device=meta")[0] == "load meta"
    pipe = shown("rewards.short.in_short.device=meta", "rewards.short.in_short.on_error=skip")
    assert {call.video.device.type for call in calls(pipe, "short")} == {"meta"}
    assert {call.video.device.type for call in calls(pipe, "long")} == {"cpu"}


def test_the_batch_limit_of_a_reward_is_obeyed() -> None:
    class Narrow(Logged):
        batch_limit = 3

    reward = Narrow()
    pipe = run_with(reward)
    assert [entry for entry in reward.log if entry.startswith("score")] == ["score 3", "score 1"] * 4
    assert [node.score for node in pipe.tree] == [node.score for node in run().tree]


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


def test_an_option_where_a_server_has_its_own_is_refused() -> None:
    place = "{where: 'http://127.0.0.1:9', options: {half: 1}}"
    with pytest.raises(RecipeError, match="takes its options where its server is started"):
        run(f"rewards.short={{flicker: {place}}}")


# Frames before the new ones, whole videos.


class Curious(Bright):
    lead_frames = 2


def test_a_reward_that_asks_for_it_sees_frames_before_the_new_ones() -> None:
    pipe = shown(in_short=Curious())
    first, *later = calls(pipe, "short")
    assert (first.video.shape[1], first.new_frames) == (3, slice(0, 3))
    assert {(inp.video.shape[1], inp.new_frames.start, inp.new_frames.stop) for inp in later} == {(5, 2, 5)}
    for short, long in zip(later, calls(pipe, "long")[1:4], strict=True):
        assert torch.equal(short.video, long.video[:, -5:])
        assert short.frame_ids == tuple(ids[-5:] for ids in long.frame_ids)


def test_frames_decoded_cold_have_none_before_them() -> None:
    pipe = shown("rewards.decode=cold", in_short=Curious())
    assert {inp.video.shape[1] for inp in calls(pipe, "short")} == {3}


def test_whole_videos_come_with_their_keys_and_are_judged_whole() -> None:
    pipe = shown("rewards.window=2")
    whole = calls(pipe, "long")[4]
    assert (whole.chunk, whole.new_frames) == (3, slice(0, 12))
    assert whole.frame_ids == tuple(tuple((node.id, t) for node in beam.path for t in range(3)) for beam in beams(pipe))


def beams(pipe: streamt1.StreamPipeline) -> list[Any]:
    """The survivors in the order in which their whole videos were judged."""
    return sorted(pipe.run.beams, key=lambda beam: beam.rank)


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
