"""What the commands that run a pipeline share: signals, progress, and what is printed at the end."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.cli.running import console_of, kept, show_result, stoppable
from streamt1_plugins.errors import OutputError, PluginError
from streamt1_plugins.runs import journal
from streamt1_plugins.search.distributed.world import LostProcessError
from tests.runs.shared import recorded
from tests.toy import ToyPipeline


@dataclass
class Printing:
    """How much a command prints."""

    quiet: bool = False
    json: bool = False


def test_a_quiet_command_shows_no_progress() -> None:
    assert list(console_of(Printing())) == ["console"]
    assert console_of(Printing(quiet=True)) == {}


def test_sigterm_ends_what_runs_and_its_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, stoppable():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_that_ends_early_has_its_folder_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = streamt1.wrap(ToyPipeline())
    with pytest.raises(KeyboardInterrupt), kept(pipe, tmp_path):
        raise KeyboardInterrupt  # before there is anything to keep
    assert capsys.readouterr().err == ""
    pipe.set_progress_bar_config(disable=True)
    with kept(pipe, tmp_path):
        pipe("a prompt")
    assert capsys.readouterr().err == ""
    with pytest.raises(KeyboardInterrupt), kept(pipe, tmp_path):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == f"What was generated so far is kept in {tmp_path}\n"


def test_what_plugins_print_during_a_run_does_not_mix_with_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with kept(streamt1.wrap(ToyPipeline(), "plain"), tmp_path):
        sys.stdout.write("from a plugin\n")
    assert capsys.readouterr() == ("", "from a plugin\n")


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit()], ids=repr)
def test_a_plugin_that_exits_ends_the_run_with_an_error(error: BaseException, tmp_path: Path) -> None:
    """Not with the exit code 0 and without a video."""
    pipe = streamt1.wrap(ToyPipeline(), "plain")
    with pytest.raises(PluginError, match=f"The run failed: {type(error).__name__}"), kept(pipe, tmp_path):
        raise error


def test_the_result_is_a_table_with_the_places_of_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = recorded(tmp_path)
    show_result(Printing(), pipe, tmp_path)
    shown = capsys.readouterr().out
    assert "16 candidates in " in shown
    assert all(str(tmp_path / name) in shown for name in ("video.mp4", "report.html"))
    show_result(Printing(quiet=True), pipe, tmp_path)
    assert capsys.readouterr().out == f"{tmp_path / 'video.mp4'}\n"


def test_a_result_that_cannot_be_printed_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pipe = recorded(tmp_path)
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(
        OutputError, match=f"The run is kept in {tmp_path}, but its result could not be printed: No space"
    ):
        show_result(Printing(), pipe, tmp_path)


@pytest.mark.parametrize("gone", [True, False])
def test_where_the_recording_process_is_gone_another_one_names_the_way_on(gone: bool, tmp_path: Path) -> None:
    pipe = recorded(tmp_path)
    error = LostProcessError("Process 0 of 2 while starting: it has ended", first_has_ended=gone)
    with pytest.raises(LostProcessError) as found, kept(pipe, tmp_path):
        raise error
    expected = f". Resume with: streamt1 generate --resume {tmp_path}" if gone else ""
    assert str(found.value) == f"Process 0 of 2 while starting: it has ended{expected}"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_ending_signal_saves_the_run_and_prints_how_to_resume_it(number: signal.Signals) -> None:
    command = [sys.executable, "-m", "streamt1_plugins", "generate", "a red circle", "--out", "o"]
    overrides = ["-o", "rewards.short={basic: {}}", "-o", "rewards.long={basic: {}}"]
    pipes: Any = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, *overrides], env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)
    path = Path("o", journal.JOURNAL)
    while not (path.exists() and b'"event": "chunk"' in path.read_bytes()) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 128 + number, printed
    assert "Resume with: streamt1 generate --resume o" in printed
    assert journal.read("o")[-1]["event"] == "finished"
    assert Path("o/video.mp4").exists()
