from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from streamt1_plugins.errors import InputError
from streamt1_tinyworld.judge import Verdict, judge
from streamt1_tinyworld.judging import TinyWorldJudge
from streamt1_tinyworld.scene import render, stage
from streamt1_tinyworld.world import Spec, Thing, parse, prompts

THING = Thing("red", "circle", "right", "slowly")
SPEC = Spec("blue", (THING,))


def clip(spec: Spec, frames: int = 33, seed: int = 2) -> Tensor:
    return render(stage([spec], seed), 0, frames)[0]


def verdict_on(**asked: str) -> Verdict:
    """The verdict on a clip of THING when something else was asked for."""
    return judge(clip(SPEC), replace(SPEC, things=(replace(THING, **asked),)))


@pytest.mark.parametrize("prompt", [*prompts("train", 6, seed=8), *prompts("train", 2, seed=8, things=2)])
def test_the_worlds_own_clips_are_right(prompt: str) -> None:
    assert judge(clip(parse(prompt), 57, seed=3), prompt).score >= 0.99


def test_a_right_clip_has_no_drift_and_no_jerk() -> None:
    verdict = judge(clip(SPEC), SPEC)
    assert verdict.persistence == 1
    assert verdict.jerk is not None
    assert verdict.jerk < 0.2
    assert verdict.size_drift is not None
    assert verdict.size_drift < 0.05
    assert verdict.background_drift < 2
    assert [chunk.mean for chunk in verdict.chunks] == [1, 1, 1]


def test_another_colour_is_no_object() -> None:
    assert verdict_on(colour="green").object == 0


def test_another_shape_is_seen() -> None:
    verdict = verdict_on(shape="star")
    assert verdict.object == 1
    assert verdict.shape == 0


@pytest.mark.parametrize("motion", ["left", "up", "down", "bouncing"])
def test_another_motion_is_seen(motion: str) -> None:
    assert verdict_on(motion=motion).direction == 0


def test_another_speed_is_seen() -> None:
    verdict = verdict_on(speed="quickly")
    assert verdict.direction == 1
    assert verdict.speed == 0


def test_another_background_is_seen() -> None:
    assert judge(clip(SPEC), replace(SPEC, background="black")).background == 0


def test_a_frozen_clip_moves_nowhere() -> None:
    verdict = judge(clip(SPEC)[:1].expand(33, -1, -1, -1), SPEC)
    assert verdict.shape == 1
    assert verdict.direction == 0
    assert verdict.speed == 0


def test_a_thing_that_vanishes_does_not_persist() -> None:
    frames = clip(SPEC).clone()
    frames[21:] = clip(replace(SPEC, things=()))[21:]
    verdict = judge(frames, SPEC)
    assert verdict.persistence == 0
    assert verdict.chunks[0].mean == 1
    assert verdict.chunks[2].object == 0


def test_drifts_are_measured() -> None:
    fading = torch.linspace(1, 0.8, 33)[:, None, None, None]
    verdict = judge(clip(SPEC) * fading, SPEC)
    assert verdict.colour_drift is not None
    assert verdict.colour_drift > 20
    assert verdict.background_drift > 5


def test_what_was_not_asked_for_is_not_judged() -> None:
    verdict = judge(clip(SPEC), "a red thing")
    assert (verdict.background, verdict.shape, verdict.direction, verdict.speed) == (None, None, None, None)
    assert verdict.score == verdict.object == 1


def test_a_prompt_outside_the_world_is_refused_before_a_comparison() -> None:
    TinyWorldJudge().check_prompt("a red circle moving right on a blue background")
    for prompt in ("a purple elephant", "a red green circle", "a circle on a pink background"):
        with pytest.raises(InputError):
            TinyWorldJudge().check_prompt(prompt)
