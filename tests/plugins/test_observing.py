"""The observers of a wrapped pipeline, and where they record it."""

from __future__ import annotations

from pathlib import Path

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from streamt1_plugins.plugins.observing import Observing
from streamt1_plugins.runs.observers.record import record_to
from tests.toy import ToyPipeline


def test_the_folder_is_the_last_calls(tmp_path: Path) -> None:
    pipe = streamt1.wrap(ToyPipeline())
    with pytest.raises(InputError, match="call the pipeline first"):
        _ = pipe.run_folder
    pipe("a prompt")
    with pytest.raises(InputError, match="was not recorded"):
        _ = pipe.run_folder
    pipe.set_observers(record_to(tmp_path / "run"))
    pipe("a prompt")
    assert pipe.run_folder == tmp_path / "run"


def test_observers_per_run_are_made_once_for_each(tmp_path: Path) -> None:
    pipe = streamt1.wrap(ToyPipeline())
    pipe("a prompt")
    observing = Observing(pipe.recipe, record_to(tmp_path, per_run=True))
    assert observing.of(pipe.last_run, "a prompt") is observing.of(pipe.last_run, "a prompt")
    assert observing.folder_of(pipe.last_run, "a prompt") in list(tmp_path.iterdir())
    assert len(list(tmp_path.iterdir())) == 1


def test_refused_observers_leave_those_that_were_set() -> None:
    pipe = streamt1.wrap(ToyPipeline(), observers={"console": {}})
    with pytest.raises(InputError):
        pipe.set_observers({"console": 3})
    assert list(pipe._observing.built) == ["console"]
