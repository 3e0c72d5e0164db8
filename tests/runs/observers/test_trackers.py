"""Any tracker of accelerate gets the numbers of every chunk; tensorboard stands for all of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError, UnknownNameError
from streamt1_plugins.runs.observers.trackers import Trackers, own_folder
from tests.toy import ToyPipeline


def run(**options: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), observers={"trackers": Trackers(**options)})
    pipe("a prompt")
    return pipe


def test_tensorboard_has_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pipe = run(folder=str(tmp_path), run="mine")
    events = EventAccumulator(str(tmp_path / "mine"))
    events.Reload()
    best = events.Scalars("score/best")
    assert [event.step for event in best] == [0, 1, 2, 3]
    for event in best:
        assert event.value == pytest.approx(max(node.score for node in pipe.tree.chunk(event.step)))
    assert {"count/kept", "count/sinks", "seconds", "long/bright"} <= set(events.Tags()["scalars"])


def test_every_video_has_a_folder_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    pipe = run(folder=str(tmp_path), run="mine")
    pipe("a prompt")
    pipe("another")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine-2", "mine-3"]
    assert all(len(list(path.glob("events.*"))) == 1 for path in tmp_path.iterdir())


def test_a_launched_process_is_not_connected_to_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first of the processes that share a video logs: it would wait for the others for ever."""
    pytest.importorskip("tensorboard")
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    run(folder=str(tmp_path))
    assert list(tmp_path.rglob("events.*"))
    assert not torch.distributed.is_initialized()
    assert PartialState._shared_state == {}


def test_the_state_of_the_program_stays(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    PartialState(cpu=True)
    before = dict(PartialState._shared_state)
    run(folder=str(tmp_path))
    assert PartialState._shared_state == before
    PartialState._reset_state()


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    assert [own_folder(tmp_path / "new", "a") for _ in range(3)] == ["a", "a-2", "a-3"]


@pytest.mark.parametrize(("name", "expected"), [("mlflow", {"nested_run": True}), ("comet_ml", {"mode": "create"})])
def test_a_run_of_the_program_is_not_joined(name: str, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is installed here; what they start is what accelerate is given."""
    from accelerate import tracking

    made: list[Any] = []

    class Fake:
        requires_logging_directory = False

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(self)
            self.given, self.calls = (args, kwargs), []

        def __getattr__(self, called: str) -> Any:
            return lambda *_, **__: self.calls.append(called)

    monkeypatch.setattr(tracking, "LOGGER_TYPE_TO_CLASS", {name: Fake})
    run(name=name, run="mine")
    (tracker,) = made
    assert tracker.given == (("mine",), expected)
    assert tracker.calls == ["start", "store_init_configuration", *["log"] * 4, "finish"]


def test_an_unknown_tracker_is_named_with_a_guess() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tensorboard'"):
        run(name="tensorbord")


def test_a_tracker_that_fails_does_not_cost_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    pipe = run(folder=str(tmp_path / "file"))
    assert len(pipe.tree.winner) == 4
    assert sum("continues without it" in message for message in caplog.messages) == 1


def test_a_titled_video_has_the_folder_of_that_name_which_a_resumed_one_continues(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(folder=str(tmp_path), title="0001-one")
    run(folder=str(tmp_path), title="0001-one", append=True)
    run(folder=str(tmp_path), title="0001-one")
    run(folder=str(tmp_path), title="../../out of here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-..-out-of-here", "0001-one", "0001-one-2"]


@pytest.mark.parametrize(
    ("name", "install"), [("comet_ml", "pip install comet-ml"), ("tensorboard", "pip install tensorboard")]
)
def test_a_tracker_that_is_not_installed_is_refused_with_the_command(
    name: str, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (name, "tensorboardX"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PluginError, match=f"The tracker '{name}' needs {name}: {install}"):
        streamt1.wrap(ToyPipeline(), overrides=[f"observers={{trackers: {{name: {name}}}}}"])
    Trackers(name=name, append=True)  # a resumed run is worth more than its curves
