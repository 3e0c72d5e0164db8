"""Every k-th frame: the same frames in every window, never none, and the settings of a recipe that ask for it."""

from __future__ import annotations

import math

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.reward import RewardInput
from streamt1_plugins.evaluation.thinning import thinned
from tests.toy import Bright, ToyPipeline


def window(first: int, chunks: int, length: int = 5) -> RewardInput:
    """The last `chunks` chunks of a video, of which `first` frames came before; pixels are the frame's place."""
    total = chunks * length
    places = torch.arange(first, first + total, dtype=torch.float32)
    ids = tuple((f"{place // length:03d}.00", place % length) for place in range(first, first + total))
    video = places.view(1, -1, 1, 1, 1).expand(2, -1, 3, 2, 2)
    anchor = torch.arange(5.0).view(1, -1, 1, 1, 1).expand(2, -1, 3, 2, 2)
    return RewardInput(video, ("", ""), 24.0, 3, 9, slice(total - length, total), anchor, (ids, ids))


def places(inp: RewardInput) -> list[int]:
    return [int(place) for place in inp.video[0, :, 0, 0, 0]]


def test_a_frame_is_taken_or_left_out_whatever_the_window() -> None:
    early, late = thinned(window(0, 3), 2, 0), thinned(window(5, 3), 2, 5)
    assert places(early) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert places(late) == [6, 8, 10, 12, 14, 16, 18]
    assert set(early.frame_ids[0]) & set(late.frame_ids[0]) == {("001.00", 1), ("001.00", 3), *late.frame_ids[0][2:5]}


def test_rate_anchor_and_new_frames_follow() -> None:
    found = thinned(window(0, 3), 2, 0)
    assert found.fps == 12.0
    assert places(found)[found.new_frames] == [10, 12, 14]
    assert [int(place) for place in found.anchor[0, :, 0, 0, 0]] == [0, 2, 4]
    assert [len(ids) for ids in found.frame_ids] == [8, 8]


def test_new_frames_and_those_before_them_keep_their_last_one() -> None:
    found = thinned(window(5, 2), 60, 5)
    assert places(found) == [9, 14]
    assert found.new_frames == slice(1, 2)


def test_every_frame_is_the_input_itself() -> None:
    inp = window(0, 2)
    assert thinned(inp, 1, 0) is inp


@pytest.mark.parametrize("horizon", ["short", "long"])
def test_a_recipe_thins_the_frames_of_one_reward(horizon: str) -> None:
    some, others = Bright(), Bright()
    overrides = (f"rewards.{horizon}.some.every=2", f"rewards.{horizon}.all.every=1")
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides, rewards={"some": some, "all": others})
    pipe("a prompt", chunks=4)
    for thin, whole in zip(some.calls, others.calls, strict=True):
        at = whole.frame_ids[0].index(thin.frame_ids[0][0])
        assert torch.equal(thin.video, whole.video[:, at::2][:, : thin.video.shape[1]])
        assert thin.video.shape[1] in (math.floor(whole.video.shape[1] / 2), math.ceil(whole.video.shape[1] / 2))
        assert thin.fps * 2 == whole.fps
    taken = {key for call in some.calls if call.chunk < 4 for keys in call.frame_ids for key in keys}
    assert {(3 * int(name[:3]) + frame) % 2 for name, frame in taken} == {0}
