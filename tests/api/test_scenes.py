"""Prompt schedules: read, checked, and found again by chunk."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streamt1_plugins.api.scenes import Scene, check_scenes, scene_at, scenes_of
from streamt1_plugins.errors import InputError

RAIN = {"chunk": 3, "prompt": "it rains", "memory": "flush"}


def test_the_prompt_is_the_first_scene() -> None:
    assert scenes_of([RAIN], "sun") == (Scene(0, "sun"), Scene(3, "it rains", "flush"))
    assert scenes_of([{"chunk": 0, "prompt": "sun"}, RAIN], None)[0] == Scene(0, "sun", "keep")
    assert scenes_of([{"chunk": 0, "prompt": "sun"}], "sun") == (Scene(0, "sun"),)
    assert scenes_of(scenes_of([RAIN], "sun"), "sun") == scenes_of([RAIN], "sun")
    assert scenes_of([], "sun") == ()


@pytest.mark.parametrize(
    ("schedule", "prompt", "match"),
    [
        ("it rains", "sun", "has to be a list of scenes"),
        (RAIN, "sun", "has to be a list of scenes"),
        (7, "sun", "has to be a list of scenes"),
        (["it rains"], "sun", r"schedule\[0\] has to be a mapping"),
        ([{**RAIN, "promt": "x"}], "sun", "unknown key 'promt'. Did you mean 'prompt'"),
        ([{**RAIN, "chunk": -1}], "sun", r"schedule\[0\].chunk has to be a whole number"),
        ([{**RAIN, "chunk": True}], "sun", "whole number"),
        ([{**RAIN, "chunk": 1.5}], "sun", "whole number"),
        ([{**RAIN, "prompt": " "}], "sun", "prompt has to be a text"),
        ([{"chunk": 3}], "sun", "prompt has to be a text, got None"),
        ([{**RAIN, "memory": "flash"}], "sun", "Did you mean 'flush'"),
        ([RAIN, {**RAIN, "chunk": 3}], "sun", r"schedule\[1\].chunk = 3 has to be above 3"),
        ([RAIN], None, "`prompt` has to be given"),
        ([{"chunk": 0, "prompt": "moon"}], "sun", "Leave one of them out"),
    ],
)
def test_bad_schedules(schedule: Any, prompt: str | None, match: str) -> None:
    with pytest.raises(InputError, match=match):
        scenes_of(schedule, prompt)


def test_a_scene_has_to_begin_inside_the_video() -> None:
    check_scenes(scenes_of([RAIN], "sun"), 4)
    check_scenes((), 1)
    with pytest.raises(InputError, match="begins at chunk 3, but the video has the chunks 0 to 2"):
        check_scenes(scenes_of([RAIN], "sun"), 3)


def test_the_scene_of_a_chunk() -> None:
    session: Any = SimpleNamespace(scenes=scenes_of([RAIN], "sun"), prompt="sun")
    assert [scene_at(session, chunk).prompt for chunk in (0, 2, 3, 9)] == ["sun", "sun", "it rains", "it rains"]
    plain: Any = SimpleNamespace(prompt="sun")
    assert scene_at(plain, 5) == Scene(0, "sun")
    unscheduled: Any = SimpleNamespace(scenes=(), prompt="sun")
    assert scene_at(unscheduled, 5) == Scene(0, "sun")
