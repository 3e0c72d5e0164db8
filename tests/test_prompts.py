"""Several prompts and several videos per prompt in one call."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins import prompts as many
from streamt1_plugins.errors import InputError
from tests.adapters.tiny import tiny_pipeline
from tests.toy import Bright, ToyPipeline

CALL: dict[str, Any] = {"height": 32, "width": 32, "num_frames": 21, "max_sequence_length": 16}
SMALL = ("search.candidates=2", "search.top_k=1", "rewards.long.dynamics={}")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wrapped() -> streamt1.StreamPipeline:
    return streamt1.wrap(tiny_pipeline(), adapter="wan", overrides=SMALL)


@pytest.mark.parametrize("kind", ["pt", "np", "pil", "latent"])
def test_two_prompts_are_two_searches_in_one_output(kind: str) -> None:
    pipe = wrapped()
    both = pipe(["a dog", "a cat"], generator=seeded(7), output_type=kind, **CALL).frames
    alone = [
        pipe(prompt, generator=seeded(7 + i), output_type=kind, **CALL).frames
        for i, prompt in enumerate(("a dog", "a cat"))
    ]
    assert len(both) == 2
    for one, expected in zip(both, alone, strict=True):
        assert (
            (one == expected[0]) if kind == "pil" else torch.equal(torch.as_tensor(one), torch.as_tensor(expected[0]))
        )


def test_videos_per_prompt_differ_and_keep_the_tuple() -> None:
    (frames,) = wrapped()("a dog", num_videos_per_prompt=2, output_type="pt", return_dict=False, **CALL)
    assert frames.shape[0] == 2
    assert not torch.equal(frames[0], frames[1])


def test_every_video_may_have_its_own_generator_and_prompts_come_first() -> None:
    generators = [seeded(i) for i in range(4)]
    calls = many.split({"prompt": ["a", "b"], "num_videos_per_prompt": 2, "generator": generators}, 42)
    assert [(call["prompt"], call["generator"]) for call in calls] == list(zip("aabb", generators, strict=True))
    assert all("num_videos_per_prompt" not in call for call in calls)


def test_negative_prompts_go_with_their_prompts() -> None:
    calls = many.split({"prompt": ["a", "b"], "negative_prompt": ["x", "y"]}, 42)
    assert [(call["prompt"], call["negative_prompt"]) for call in calls] == [("a", "x"), ("b", "y")]
    assert [call["generator"].initial_seed() for call in calls] == [42, 43]


def test_one_video_is_left_as_it_is() -> None:
    call = {"prompt": ["a"], "generator": seeded(1), "height": 8}
    for one in (1, None, np.int64(1)):
        assert many.split({**call, "num_videos_per_prompt": one}, 42) == [call]


def test_without_a_seed_each_call_is_left_without_a_generator() -> None:
    assert many.split({"prompt": ["a", "b"], "generator": None}, None) == [{"prompt": "a"}, {"prompt": "b"}]


def test_embeddings_and_masks_are_split_by_rows() -> None:
    rows = torch.arange(6.0).reshape(2, 3, 1)
    call = {"prompt_embeds": rows, "prompt_attention_mask": rows[:, :, 0], "negative_prompt_embeds": rows[:1]}
    first, second = many.split({**call, "prompt_template": {"a": 1, "b": 2}}, 42)
    assert torch.equal(first["prompt_embeds"], rows[:1])
    assert torch.equal(second["prompt_embeds"], rows[1:])
    assert torch.equal(second["prompt_attention_mask"], rows[1:, :, 0])
    assert torch.equal(second["negative_prompt_embeds"], rows[:1])
    assert second["prompt_template"] == {"a": 1, "b": 2}


CLIP = torch.zeros(5, 3, 8, 8)
PICTURES: list[tuple[str, Any, Any, Any]] = [
    ("image", ["i", "j"], "i", "j"),
    ("image", ["i"], "i", "i"),
    ("image", "i", "i", "i"),
    ("video", [["f", "g"], ["h", "i"]], ["f", "g"], ["h", "i"]),
    ("video", ["f", "g", "h"], ["f", "g", "h"], ["f", "g", "h"]),
    ("video", [CLIP, CLIP + 1], CLIP, CLIP + 1),
    ("video", CLIP, CLIP, CLIP),
    ("video", torch.stack([CLIP, CLIP + 1]), CLIP[None], CLIP[None] + 1),
    ("image", torch.stack([CLIP[0], CLIP[0] + 1]), CLIP[:1], CLIP[:1] + 1),
]


@pytest.mark.parametrize(("name", "value", "first", "second"), PICTURES)
def test_pictures_go_with_their_prompts(name: str, value: Any, first: Any, second: Any) -> None:
    found = [call[name] for call in many.split({"prompt": ["a", "b"], name: value}, 42)]
    for each, expected in zip(found, (first, second), strict=True):
        assert torch.equal(each, expected) if isinstance(expected, torch.Tensor) else each == expected


def test_latents_in_a_list_are_joined_one_by_one() -> None:
    outputs = [([torch.full((1, 2), i), torch.full((1, 4), i)],) for i in range(2)]
    (joined,) = many.joined(outputs)
    assert [each.tolist() for each in joined] == [[[0, 0], [1, 1]], [[0] * 4, [1] * 4]]


def test_videos_are_counted() -> None:
    assert many.videos({"prompt": "a"}) == many.videos({}) == many.videos({"prompt": ""}) == 1
    assert many.videos({"prompt": ["a", "b"], "num_videos_per_prompt": np.int32(2)}) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"prompt": "a", "num_videos_per_prompt": 0}, "whole number from 1 on, got 0"),
        ({"prompt": ["a", "b"], "generator": [seeded(1)]}, "2 videos need 2 generators or one, got 1"),
        ({"prompt": "a", "num_videos_per_prompt": True}, "whole number from 1 on, got True"),
        ({"prompt": ["a", "b"], "negative_prompt": ["x", "y", "z"]}, "as many negative prompts or one, got 3"),
        ({"prompt": ["a", "b"], "image": ["x", "y", "z"]}, "as many entries of `image` or one, got 3"),
    ],
)
def test_lists_that_do_not_fit_are_explained(call: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        many.split(call, 42)


def test_videos_made_before_a_failure_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    pipe = streamt1.wrap(ToyPipeline(), "plain")
    with pytest.raises(InputError, match="The prompt is empty") as caught:
        pipe(["a", "b", "", "c"])
    assert [each.shape[0] for each in caught.value.outputs] == [12, 12]  # type: ignore[attr-defined]
    assert "Video 3 of 4 was not made" in caplog.text


def test_several_videos_are_never_written_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    for recipe, observers in (({"video": {"path": str(path)}}, {}), ({}, streamt1.record_to(tmp_path / "run"))):
        pipe = streamt1.wrap(ToyPipeline(), {"extends": "plain", "observers": recipe}, observers=observers)
        for call in ({"prompt": ["a", "b"]}, {"prompt": "a", "num_videos_per_prompt": 2}):
            with pytest.raises(InputError, match=r"The observer '\w+' writes one run, to .*, and this call makes 2"):
                pipe(**call)
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_that_a_reward_cannot_read_is_found_before_the_first_video() -> None:
    pipe = streamt1.wrap(ToyPipeline(), rewards={"choosy": Choosy()})
    with pytest.raises(InputError, match="Reward 'choosy' cannot read this prompt"):
        pipe(["word", "two words"])
    assert pipe.run is None


@dataclass
class Choosy(Bright):
    """Reads prompts of one word."""

    def check_prompt(self, prompt: str) -> None:
        if " " in prompt:
            raise InputError("it reads one word.")
