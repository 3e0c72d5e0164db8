"""The frames that rewards get on each horizon, and the keys that identify them."""

from __future__ import annotations

from typing import Any

import torch

import streamt1_plugins as streamt1
from streamt1_plugins.evaluation.inputs import quantise
from tests.toy import Bright, ToyPipeline


def test_pixels_are_truncated_as_in_a_png() -> None:
    video = torch.tensor([0.0, 0.999 / 255, 1.0001 / 255, 0.5, 1.0])
    assert torch.equal(quantise(video) * 255, torch.tensor([0.0, 0.0, 1.0, 127.0, 255.0]))


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


def test_rewards_judge_each_scene_by_its_own_prompt_and_frames() -> None:
    seen = {"in_short": Bright(), "in_long": Bright()}
    named = ("rewards.short.in_short={}", "rewards.long.in_long={}", "rewards.window=3", "rewards.replace=true")
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=named, rewards=seen)
    pipe("sun", schedule=[{"chunk": 2, "prompt": "rain"}])
    for horizon in ("in_short", "in_long"):
        chunks = seen[horizon].calls[:4]
        assert [inp.prompts[0] for inp in chunks] == ["sun", "sun", "rain", "rain"]
        assert [inp.anchor is None for inp in chunks] == [True, False, True, False]
    assert [inp.video.shape[1] for inp in seen["in_long"].calls] == [3, 6, 3, 6, 6]
    last, whole = seen["in_long"].calls[3:]
    assert whole.prompts[0] == "rain"
    assert torch.equal(whole.anchor[0], whole.video[0, :3])
    for inp in (last, whole):
        assert {ids[0][0].split(".")[0] for ids in inp.frame_ids} == {"002"}
