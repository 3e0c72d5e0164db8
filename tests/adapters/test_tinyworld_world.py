from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from streamt1_tinyworld.scene import coverage, render, stage
from streamt1_tinyworld.world import MOTIONS, SHAPES, Spec, Thing, caption, forget, parse, prompts, sample, split


@pytest.mark.parametrize("things", [1, 2])
def test_parse_inverts_every_caption(things: int) -> None:
    rng = random.Random(things)
    for _ in range(300):
        spec = forget(sample(rng, things), rng, speed=0.3, other=0.2)
        assert parse(caption(spec)) == spec
        assert parse(caption(spec, rng)) == spec


def test_a_caption_reads_like_english() -> None:
    spec = Spec("blue", (Thing("red", "circle", "right", "slowly"), Thing("orange", "star", "bouncing")))
    assert caption(spec) == "a red circle moving right slowly and an orange star bouncing on a blue background"


def test_what_a_prompt_leaves_open_is_none() -> None:
    assert parse("A red circle, moving right, on a blue background!") == Spec(
        "blue", (Thing("red", "circle", "right"),)
    )
    assert parse("a star") == Spec(None, (Thing(None, "star"),))
    assert parse("") == Spec()


@pytest.mark.parametrize(
    ("prompt", "named"),
    [
        ("a red dog on a blue background", "dog"),
        ("a brown circle", "brown"),
        ("a circle on a red background", "red"),
        ("a red blue circle", "blue"),
        ("a star and a circle and a square", "at most 2"),
    ],
)
def test_what_the_world_does_not_know_is_named(prompt: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse(prompt)


def test_the_split_never_changes() -> None:
    assert split(parse("a red circle moving right on a blue background")) == "train"
    assert prompts("test", 2, seed=0) == [
        "a cyan circle moving left slowly on a blue background",
        "an orange circle bouncing quickly on a black background",
    ]


def test_the_split_holds_out_a_fifth_whatever_the_speed() -> None:
    rng = random.Random(0)
    specs = [sample(rng) for _ in range(4000)]
    assert 0.17 < sum(split(spec) == "test" for spec in specs) / len(specs) < 0.23
    for spec in specs[:100]:
        for speed in (None, "slowly", "quickly"):
            assert split(replace(spec, things=(replace(spec.things[0], speed=speed),))) == split(spec)


def test_a_held_out_thing_is_in_no_training_spec_either() -> None:
    trained = {
        (parse(p).background, t.colour, t.shape, t.motion) for p in prompts("train", 400, 3, 2) for t in parse(p).things
    }
    tested = {(parse(p).background, *vars(parse(p).things[0]).values()) for p in prompts("test", 200, 3)}
    assert not trained & {combination[:4] for combination in tested}


def test_frames_are_the_same_whichever_range_is_rendered() -> None:
    scene = stage([sample(random.Random(4), 2)], seed=4)
    long = render(scene, 0, 40)
    assert long.shape == (1, 40, 3, 64, 64)
    assert long.min() >= 0
    assert long.max() <= 1
    torch.testing.assert_close(render(scene, 30, 40), long[:, 30:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("motion", MOTIONS)
def test_every_shape_covers_the_area_it_was_given(shape: str, motion: str) -> None:
    scene = stage([Spec("black", (Thing("red", shape, motion, "slowly"),))] * 3, seed=1)
    area = coverage(scene, 100, 102)[:, :, 0].sum((2, 3))
    torch.testing.assert_close(area, (torch.pi * scene.radius[:, :1] ** 2).expand(-1, 2), rtol=0.06, atol=0)


def test_twins_differ_in_one_attribute_alone() -> None:
    spec = Spec("black", (Thing("red", "circle", "right", "slowly"),))
    other = replace(spec, things=(replace(spec.things[0], colour="green"),))
    first, second = stage([spec], 5), stage([other], 5)
    assert torch.equal(first.position, second.position)
    assert torch.equal(first.velocity, second.velocity)
    assert not torch.equal(first.colour, second.colour)
