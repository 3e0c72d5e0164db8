"""A call's schedule, the text of each scene, and what a chunk remembers."""

from __future__ import annotations

from typing import Any

import pytest

from streamt1_plugins.api.scenes import Scene
from streamt1_plugins.errors import InputError
from streamt1_seams import remembered_from, scene_index, scene_texts, split_schedule

RAIN = {"chunk": 2, "prompt": "rain", "memory": "flush"}
SCENES = (Scene(0, "sun"), Scene(2, "rain", "flush"), Scene(4, "sun", "recache"))


@pytest.mark.parametrize("prompt", ["sun", ["sun"], ("sun",)])
def test_the_schedule_is_taken_out_of_a_call(prompt: Any) -> None:
    call, scenes = split_schedule({"prompt": prompt, "schedule": [RAIN], "height": 32})
    assert call == {"prompt": "sun", "height": 32}
    assert scenes == (Scene(0, "sun"), Scene(2, "rain", "flush"))


def test_a_schedule_may_begin_with_the_prompt() -> None:
    call, scenes = split_schedule({"schedule": [{"chunk": 0, "prompt": "sun"}, RAIN]})
    assert call == {"prompt": "sun"}
    assert [scene.chunk for scene in scenes] == [0, 2]


@pytest.mark.parametrize("schedule", [None, [], ()])
def test_a_call_without_scenes_stays_as_it_is(schedule: Any) -> None:
    assert split_schedule({"prompt": ["a", "b"], "schedule": schedule}) == ({"prompt": ["a", "b"]}, ())


def test_a_schedule_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="has to be a list of scenes"):
        split_schedule({"prompt": "sun", "schedule": "rain"})
    with pytest.raises(InputError, match="`prompt` has to be given for the first chunks"):
        split_schedule({"prompt_embeds": object(), "schedule": [RAIN]})


def test_each_prompt_is_encoded_once() -> None:
    encoded: list[str] = []

    def encode(call: Any) -> list[str]:
        encoded.append(call["prompt"])
        return [call["prompt"], call["negative_prompt"]]

    texts = scene_texts(SCENES, {"prompt": "sun", "negative_prompt": "bad"}, encode)
    assert encoded == ["sun", "rain"]
    assert texts == [["sun", "bad"], ["rain", "bad"], ["sun", "bad"]]
    assert texts[0] is texts[2]
    assert scene_texts((), {"prompt": None, "negative_prompt": "bad"}, encode) == [[None, "bad"]]


def test_the_scene_and_the_memory_of_a_chunk() -> None:
    chunks = range(6)
    assert [scene_index(SCENES, chunk) for chunk in chunks] == [0, 0, 1, 1, 2, 2]
    assert [remembered_from(SCENES, chunk) for chunk in chunks] == [0, 0, 2, 2, 2, 2]
    assert [(scene_index((), chunk), remembered_from((), chunk)) for chunk in chunks] == [(0, 0)] * 6
