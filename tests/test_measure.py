"""What rewards are shown, and what becomes of what they say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.calibration import calibrate, combine
from streamt1_plugins.contracts import Reading
from streamt1_plugins.recipe import FixedCalibration
from streamt1_plugins.views import quantise
from tests.toy import ToyPipeline

NAN = math.nan


def same(got: list[float], expected: list[float]) -> bool:
    return got == pytest.approx(expected, nan_ok=True)


# Calibration.


@pytest.mark.parametrize(
    ("calibration", "raws", "earlier", "expected"),
    [
        ("none", [3.0, NAN, 1.0], [100.0], [3.0, NAN, 1.0]),
        (FixedCalibration(mean=1, std=2), [3.0, NAN, 1.0], [100.0], [1.0, NAN, 0.0]),
        ("group", [1.0, 3.0], [100.0], [-1.0, 1.0]),
        ("group", [1.0, NAN, 3.0], [], [-1.0, NAN, 1.0]),
        ("group", [5.0, 5.0], [0.0], [0.0, 0.0]),
        ("group", [5.0, NAN], [], [0.0, NAN]),
        ("group", [NAN, NAN], [], [NAN, NAN]),
        ("running", [1.0, 3.0], [], [-1.0, 1.0]),
        ("running", [4.0], [0.0], [1.0]),
        ("running", [4.0, NAN], [0.0, NAN], [1.0, NAN]),
        ("running", [2.0], [], [0.0]),
        ("running", [2.0], [2.0, 2.0], [0.0]),
        ("rank", [3.0, 1.0, 2.0], [100.0], [1.0, 0.0, 0.5]),
        ("rank", [2.0, 2.0, 1.0], [], [0.5, 0.5, 0.0]),
        ("rank", [2.0, NAN, 1.0], [], [0.5, NAN, 0.0]),
        ("rank", [7.0], [], [0.0]),
    ],
)
def test_calibration(calibration: Any, raws: list[float], earlier: list[float], expected: list[float]) -> None:
    assert same(calibrate(raws, earlier, calibration), expected)


@pytest.mark.parametrize("calibration", ["none", "running", "group", "rank", FixedCalibration(mean=3, std=0.1)])
def test_calibration_never_changes_the_order_within_a_chunk(calibration: Any) -> None:
    raws = [0.3, -2.0, 5.5, 0.31]
    values = calibrate(raws, [1.0, 9.0], calibration)
    assert sorted(range(4), key=raws.__getitem__) == sorted(range(4), key=values.__getitem__)


@pytest.mark.parametrize("calibration", ["none", "running", "group", "rank"])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, NAN])
def test_what_is_not_finite_stays_so(calibration: str, bad: float) -> None:
    values = calibrate([1.0, bad, 2.0], [], calibration)
    assert [math.isfinite(value) for value in values] == [True, False, True]


def test_readings_combine_by_weight() -> None:
    assert combine({"a": Reading(9, 1.0, 1.0), "b": Reading(9, 4.0, 2.0)}) == 3.0


def test_pixels_are_truncated_as_in_a_png() -> None:
    video = torch.tensor([0.0, 0.999 / 255, 1.0001 / 255, 0.5, 1.0])
    assert torch.equal(quantise(video) * 255, torch.tensor([0.0, 0.0, 1.0, 127.0, 255.0]))


# What a reward is shown.


def run(*overrides: str, recipe: str = "stream-t1", **call: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides)
    pipe("a prompt", **call)
    return pipe


LONG_AND_SHORT = ("rewards.short={bright: {options: {calls: [0]}}}", "rewards.long.bright={}")  # two objects


def calls(pipe: streamt1.StreamPipeline, horizon: str) -> list[Any]:
    return [call for call in pipe._measurer.rewards[horizon, "bright"].calls if call != 0]


def test_short_is_the_chunk_and_long_the_window_that_ends_with_it() -> None:
    pipe = run(*LONG_AND_SHORT, "rewards.window=2")
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
    pipe = run(*LONG_AND_SHORT, "rewards.window=3")
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
    pipe = run(*LONG_AND_SHORT, recipe="best-of-n")  # four branches that never meet
    first, *later = calls(pipe, "short")
    assert first.anchor is None
    roots = {node.id: first.video[node.ordinal] for node in pipe.tree.chunk(0)}
    for inp in later:
        for row, ids in enumerate(inp.frame_ids):
            assert torch.equal(inp.anchor[row], roots[pipe.tree.path(ids[0][0])[0].id])
    assert len({tuple(anchor.flatten().tolist()) for anchor in later[-1].anchor}) > 1


def test_a_cold_decode_has_no_lineage_keys_because_its_pixels_differ() -> None:
    pipe = run(*LONG_AND_SHORT, "rewards.decode=cold")
    assert {inp.frame_ids for inp in calls(pipe, "short")} == {()}
    assert all(torch.equal(inp.anchor[0], pipe.run.beams[0].history.frames[0]) for inp in calls(pipe, "long")[-1:])






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
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1")
    pipe._measurer.rewards["short", "bright"] = ScoresList()  # type: ignore[index]
    pipe("a prompt")
    assert "Reward 'bright' failed: AttributeError" in (pipe.tree.chunk(0)[0].problem or "")
