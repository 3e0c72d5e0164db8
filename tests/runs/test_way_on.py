"""What an error or a warning names as the way on fits how the run was started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import streamt1_plugins as streamt1
from streamt1_plugins.cli.main import app
from streamt1_plugins.errors import InputError
from streamt1_plugins.runs import way_on
from streamt1_plugins.runs.observers.record import record_to
from tests.toy import ToyPipeline


def interrupted(folder: Path) -> Path:
    def stop(pipe: Any, index: int, _: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        streamt1.wrap(ToyPipeline(), observers=record_to(folder))("a prompt", on_chunk_end=stop)
    return folder


def test_in_python_it_is_a_line_of_python_that_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = interrupted(tmp_path / "run")
    (message,) = caplog.messages
    line = message.partition("Resume with: ")[2]
    video = eval(line, {"streamt1_plugins": streamt1, "pipe": ToyPipeline()})
    assert torch.equal(video, streamt1.wrap(ToyPipeline())("a prompt"))
    line = way_on.continue_with(folder, "001.00")
    eval(line, {"streamt1_plugins": streamt1, "pipe": ToyPipeline()})
    assert way_on.start_with("a.yaml") == 'streamt1_plugins.wrap(pipe, "a.yaml")'


def test_in_a_command_it_is_a_command(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with way_on.command_line():
        folder = interrupted(tmp_path / "run")
        assert way_on.continue_with("run", "001.00") == "streamt1 replay run --continue-from 001.00"
        assert way_on.start_with("a.yaml") == "streamt1 generate PROMPT --recipe a.yaml"
    assert caplog.messages == [f"Stopped after 1 of 4 chunks. Resume with: streamt1 generate --resume {folder}"]
    assert not way_on.is_command()


@pytest.mark.parametrize("words", [["generate", "--resume"], ["replay"]])
def test_a_command_cannot_load_a_wrapped_pipeline_and_names_python(words: list[str], tmp_path: Path) -> None:
    folder = interrupted(tmp_path / "run")
    result = CliRunner().invoke(app, [*words, str(folder)])
    assert result.exit_code == 2
    assert f'Pass it in Python: streamt1_plugins.resume("{folder}", pipe)' in result.output


def test_python_gets_the_same_where_the_pipeline_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'regenerate\(".*", node, pipe\) or branch\('):
        streamt1.resume(interrupted(tmp_path / "run"))
