"""Observers that a recipe names, their options, and observers of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.errors import PluginError, RecipeError
from streamt1_plugins.runs.observers.folder import Folder
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.observers.video import Video
from tests.runs.shared import run
from tests.toy import ToyPipeline


def test_observers_are_parts_of_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = {
        "console": {"plain": True},
        "folder": {"path": str(tmp_path / "o")},
        "video": {"path": str(tmp_path / "v.mp4"), "crf": 30},
    }
    streamt1.wrap(ToyPipeline(), {"extends": "plain", "observers": named})("a prompt")
    assert (tmp_path / "v.mp4").stat().st_size
    assert yaml.safe_load((tmp_path / "o" / "recipe.yaml").read_text())["observers"] == named
    assert "(4 of 4 done)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("observers", "message"),
    [
        ({"video": {"path": "v.mp4", "crf": 99}}, "crf = 99"),
        ({"video": {"path": "v.mp4", "scale": 0}}, "scale"),
        ({"video": {"pth": "v.mp4"}}, "Did you mean 'path'"),
        ({"folder": {}}, "path"),
    ],
)
def test_bad_options_of_observers(observers: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        streamt1.wrap(ToyPipeline(), {"extends": "plain", "observers": observers})


def test_a_plain_dataclass_may_observe_and_its_failure_at_the_end_is_named(tmp_path: Path) -> None:
    from dataclasses import dataclass

    @dataclass
    class Broken:
        size: int = 1

        @hookimpl
        def streamt1_run_finished(self) -> None:
            raise ValueError("oh")

    with pytest.raises(PluginError, match="'broken' at the end of the run failed: ValueError: oh"):
        run({"broken": Broken(), "folder": Folder(str(tmp_path / "o"))})
    assert (tmp_path / "o" / "summary.json").exists()


def test_an_observer_given_as_an_object_has_the_options_of_the_recipe(tmp_path: Path) -> None:
    recipe = {"extends": "plain", "observers": {"video": {"crf": 51}, "journal": {"state": False}}}
    streamt1.wrap(ToyPipeline(), recipe, observers=record_to(tmp_path / "o"))("a prompt")
    streamt1.wrap(ToyPipeline(), "plain", observers=record_to(tmp_path / "other"))("a prompt")
    sizes = [(tmp_path / name / "video.mp4").stat().st_size for name in ("o", "other")]
    assert sizes[0] < sizes[1]
    assert not (tmp_path / "o" / "state").exists()


@pytest.mark.parametrize(
    ("observers", "message"),
    [
        ({"video": {"path": "elsewhere.mp4"}}, "observers.video.path = 'elsewhere.mp4' has no effect: .*v.mp4"),
        ({"folder": {"append": True}}, "observers.folder.append = True has no effect"),
        ({"console": {"plain": True}}, "an object of another class"),
        ({"video": {"crf": 20}}, "observers.video.crf = 20 has no effect: this observer is set up with 30"),
    ],
)
def test_options_that_cannot_act_on_a_given_observer_are_refused(observers: dict, message: str) -> None:
    given = {"video": Video("v.mp4", crf=30), "folder": Folder("o"), "console": Video("c.mp4")}
    with pytest.raises(RecipeError, match=message):
        streamt1.wrap(ToyPipeline(), {"extends": "plain", "observers": observers}, observers=given)


def test_a_tilde_in_the_path_of_an_observer_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    observers = {"video": {"path": "~/v.mp4"}, "folder": {"path": "~/run"}}
    streamt1.wrap(ToyPipeline(), {"extends": "plain", "observers": observers})("a prompt")
    assert (tmp_path / "v.mp4").exists()
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["observers"] == observers
