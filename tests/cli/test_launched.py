"""Commands under a launcher: as many processes as the user counts on."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamt1_plugins import InputError
from streamt1_plugins.cli.launched import as_one_process, check_processes
from tests.launching import CLI, launch


@pytest.mark.parametrize(("started", "wanted"), [(None, None), ("4", None), (None, 1), ("4", 4)])
def test_the_number_that_was_started_is_fine(
    started: str | None, wanted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if started:
        monkeypatch.setenv("WORLD_SIZE", started)
    check_processes(wanted)


@pytest.mark.parametrize(("started", "words"), [("1", "1 was started"), ("2", "2 were started")])
def test_another_number_is_refused(started: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", started)
    with pytest.raises(InputError, match=f"--processes 3, but {words}. Start them with torchrun --nproc_per_node 3"):
        check_processes(3)


def test_without_a_launcher_there_is_no_world(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with as_one_process(None) as world:
        assert world is None


def test_another_number_of_processes_than_expected_stops_with_the_command_that_is_right(tmp_path: Path) -> None:
    found = launch(2, CLI, "generate", "a prompt", "--model", "toy", "--out", tmp_path / "run", "--processes", 4)
    assert found.returncode != 0
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("Error: ")]
    assert "--processes 4, but 2 were started. Start them with torchrun --nproc_per_node 4" in line
