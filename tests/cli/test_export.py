"""The command `streamt1 export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import streamt1_plugins as streamt1
from streamt1_plugins.cli import main as cli
from streamt1_plugins.runs import files
from tests.export.runs import lines, recorded
from tests.runs.test_files import other_process


def export(*args: str | Path) -> Any:
    return CliRunner().invoke(cli.app, ["export", *map(str, args)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, _toy_plugin: None) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("one", "two"):
        recorded(folder / name)
    return folder


def test_runs_are_written_and_listed(tmp_path: Path, runs: Path) -> None:
    done = export(runs / "one", runs / "two", "--as", "groups", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    count = len(lines(tmp_path / "out", "one"))
    assert f"one  {count} records\n" in done.stderr
    assert done.stdout.startswith(f"folder  {tmp_path / 'out'}  ({2 * count} groups, ")
    again = export(runs, "--as", "groups", "--out", tmp_path / "out")
    assert f"one  {count} records, already there\n" in again.stderr


def test_one_bad_run_does_not_stop_the_others(tmp_path: Path, runs: Path) -> None:
    both = tmp_path / "both"
    for name in ("one", "two"):
        (both / name).mkdir(parents=True)
        text = (runs / name / "journal.jsonl").read_text()
        (both / name / "journal.jsonl").write_text(text.replace('"a prompt"', '"b prompt"') if name == "one" else text)
    done = export(both, "--as", "preferences", "-o", tmp_path / "out")
    assert done.exit_code == 3, done.output
    assert "was changed after it was written" in done.stderr
    assert lines(tmp_path / "out", "two")


def test_without_a_search_there_is_a_word_of_it(tmp_path: Path) -> None:
    pipe = streamt1.load("toy", "plain", observers=streamt1.record_to(tmp_path / "run"))
    pipe("a prompt")
    done = export(tmp_path / "run", "--as", "groups", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "no run has two scored candidates with one history" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing", "--as", "groups", "-o", "out"], "missing holds no run: it has no journal.jsonl"),
        (["--as", "groups", "-o", "out"], "Missing argument 'RUN...'"),
        (["one", "-o", "out"], "Missing option '--as'"),
        (["one", "--as", "pairs", "-o", "out"], "'pairs' is not one of"),
        (["one", "--as", "groups"], "Missing option '--out'"),
    ],
)
def test_mistakes_are_explained(runs: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str) -> None:
    monkeypatch.chdir(runs)
    done = export(*args)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.replace("\N{BOX DRAWINGS LIGHT VERTICAL}", "").split())
    assert not (runs / "out").exists()


def test_a_folder_that_another_process_writes_is_refused(
    tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.05)
    with other_process(tmp_path / "out") as process:
        done = export(runs, "--as", "groups", "--out", tmp_path / "out", "--tensors", "none")
        assert done.exit_code == 2
        assert f"Another process is writing to the folder {tmp_path / 'out'}: process {process.pid}" in done.stderr
    assert export(runs, "--as", "groups", "--out", tmp_path / "out", "--tensors", "none").exit_code == 0
