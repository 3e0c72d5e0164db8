"""Observers that a recipe names, their options, and observers of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.errors import PluginError, RecipeError
from streamt1_plugins.runs.observers.folder import Folder
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
    assert "chunk 4/4" in capsys.readouterr().err


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
