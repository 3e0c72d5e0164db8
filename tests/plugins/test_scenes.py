"""A schedule is refused where the adapter has no scenes, and where a scene begins after the video."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from streamt1_plugins.plugins.scenes import check_adapter, check_session
from tests.toy import Bright, ToyPipeline

RAIN = [{"chunk": 2, "prompt": "rain", "memory": "flush"}]


@pytest.mark.parametrize("name", ["framepack", "skyreels"])
def test_an_adapter_that_declares_it_refuses_schedules_with_the_reason_and_names_others(name: str) -> None:
    others = "anyflow, helios, .*tinyworld,.* wan"
    with pytest.raises(InputError, match=rf"cannot change with adapter '{name}'.* text.*: {others}") as found:
        check_adapter(name)
    assert "framepack" not in str(found.value).partition("Adapters that")[2]


@pytest.mark.parametrize("name", ["anyflow", "helios", "tinyworld", "wan", "no-such-adapter"])
def test_adapters_with_scenes_pass(name: str) -> None:
    check_adapter(name)


def test_a_session_that_ignores_its_schedule_is_refused() -> None:
    session: Any = SimpleNamespace(num_chunks=4, prompt="sun")
    check_session("toy", session, None)
    with pytest.raises(InputError, match="its sessions have one prompt"):
        check_session("toy", session, RAIN)


@pytest.mark.parametrize("recipe", ["plain", "beam"])
def test_a_call_with_a_scene_after_the_video_is_refused(recipe: str) -> None:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=["rewards.long={bright: {}}"])
    with pytest.raises(InputError, match="begins at chunk 2, but the video has the chunks 0 to 1"):
        pipe.begin("sun", schedule=RAIN, chunks=2)
    pipe.complete(pipe.begin("sun", schedule=RAIN))  # nothing is left locked


def test_scenes_as_objects_are_recorded_as_data() -> None:
    pipe = streamt1.wrap(ToyPipeline(), "beam", overrides=["rewards.long={bright: {}}"])
    pipe("sun", schedule=(streamt1.Scene(2, "rain", "flush"),))
    assert pipe.last_run.call["schedule"] == RAIN


def test_scenes_of_several_videos_are_checked_before_the_first_is_made() -> None:
    pipe = streamt1.wrap(ToyPipeline(), "beam", overrides=["rewards.long={picky: {}}"], rewards={"picky": Picky()})
    with pytest.raises(InputError, match="'picky' cannot read this prompt: no rain"):
        pipe(["sun", "moon"], schedule=RAIN)
    assert pipe.run is None


class Picky(Bright):
    def check_prompt(self, prompt: str) -> None:
        if prompt == "rain":
            raise InputError("no rain")
