"""Prompt schedules: read from arguments, files and texts, checked, and put in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins.config.schedule import Scene, arguments, check_scenes, described, plain, read_schedule, scenes_of
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


FILE = """# what happens
- {chunk: 3, prompt: it rains, memory: flush}
- chunk: 5
  prompt: "no"
"""
SCENES = (Scene(0, "sun"), Scene(3, "it rains", "flush"), Scene(5, "no"))


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (FILE, "sun"),
        ('[{"chunk": 3, "prompt": "it rains", "memory": "flush"}, {"chunk": 5, "prompt": "no"}]', "sun"),
        (f"prompt: sun\nschedule:\n{FILE}", None),
        (f"- {{chunk: 0, prompt: sun}}\n{FILE}", None),
    ],
)
def test_a_file_is_yaml_or_json_with_or_without_the_first_prompt(tmp_path: Path, text: str, prompt: str | None) -> None:
    path = tmp_path / "scenes"
    path.write_text(text)
    assert read_schedule(str(path), prompt) == SCENES


def test_a_text_may_stand_in_for_the_file() -> None:
    assert read_schedule(" [{chunk: 3, prompt: it rains, memory: flush}, {chunk: 5, prompt: 'no'}]", "sun") == SCENES
    assert read_schedule("[]", "sun") == (Scene(0, "sun"),)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[{chunk: 3, prmpt: it rains}]", "The schedule: .*unknown key 'prmpt'. Did you mean 'prompt'"),
        ("[{chunk: 3, prompt: it rains}", "The schedule is not YAML.*line 1"),
        ("[{chunk: 3, chunk: 4, prompt: it rains}]", "The schedule is not YAML.*chunk"),
        ("[{chunk: three, prompt: it rains}]", "chunk has to be a whole number from 0 on, got 'three'"),
        ("no such file", "The schedule 'no such file' does not exist"),
    ],
)
def test_what_is_wrong_with_a_text_is_named(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match) as found:
        read_schedule(text, "sun")
    assert "\n" not in str(found.value)


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scenes.yaml"
    path.write_text("schedules: []")
    with pytest.raises(InputError, match=r"scenes\.yaml.*unknown key 'schedules'. Did you mean 'schedule'"):
        read_schedule(str(path), "sun")
    path.write_text("prompt: moon")
    with pytest.raises(InputError, match="The prompt is given twice"):
        read_schedule(str(path), "sun")
    path.write_text("")
    with pytest.raises(InputError, match=r"has to be a list of scenes.*got None"):
        read_schedule(str(path), "sun")


def test_scenes_in_words_and_as_data() -> None:
    assert described(SCENES) == "sun; from chunk 3 (flush): it rains; from chunk 5 (keep): no"
    assert described(SCENES[:1]) == "sun"
    assert arguments(SCENES[:1]) == {}
    assert scenes_of(arguments(SCENES)["schedule"], "sun") == SCENES
    assert plain((RAIN, SCENES[2])) == [RAIN, {"chunk": 5, "prompt": "no", "memory": "keep"}]
    assert plain("not a schedule") == "not a schedule"
