"""Any tracker of accelerate gets the numbers of every chunk; tensorboard stands for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import UnknownNameError
from streamt1_plugins.runs.observers.trackers import Trackers
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


def test_an_unknown_tracker_is_named_with_a_guess() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'tensorboard'"):
        run(name="tensorbord")


def test_a_tracker_that_fails_does_not_cost_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    pipe = run(folder=str(tmp_path / "file"))
    assert len(pipe.tree.winner) == 4
    assert sum("continues without it" in message for message in caplog.messages) == 1
