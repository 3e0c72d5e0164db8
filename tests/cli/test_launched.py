"""`streamt1 generate` under a launcher: a file of prompts, groups, and numbers that do not add up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from streamt1_plugins.config.schema import ParallelSettings
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.search.distributed.launch import sizes
from tests.launching import CLI, launch, without_times

PROMPTS = ["one", "the second", "three", "the fourth", "five"]
FOLDERS = ["0001-one", "0002-the-second", "0003-three", "0004-the-fourth", "0005-five"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("# a comment\n" + "\n\n".join(PROMPTS) + "\n")
    return file


def trees(out: Path) -> dict[str, object]:
    return {path.name: without_times(json.loads((path / "tree.json").read_text())) for path in sorted(out.iterdir())}


def test_every_prompt_of_a_file_gets_its_video_however_many_processes(prompts: Path, tmp_path: Path) -> None:
    command = ("generate", "--prompts", prompts, "--model", "toy", "--out")
    alone = launch(1, CLI, *command, tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    assert sorted(path.name for path in (tmp_path / "alone").iterdir()) == FOLDERS
    grouped = launch(4, CLI, *command, tmp_path / "grouped", "-o", "parallel={prompts: 2, candidates: 2}")
    assert grouped.returncode == 0, grouped.stderr
    assert grouped.stdout.splitlines()[-1] == f"5 videos in {tmp_path / 'grouped'}"
    assert trees(tmp_path / "grouped") == trees(tmp_path / "alone")
    assert "still there at exit" not in grouped.stderr  # a thread of a connection could abort the process now and then


def test_running_again_makes_only_what_is_missing(prompts: Path, tmp_path: Path) -> None:
    command = ("generate", "--prompts", prompts, "--model", "toy", "--out", tmp_path / "out")
    assert launch(1, CLI, *command).returncode == 0
    before = trees(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / FOLDERS[4])
    file = tmp_path / "out" / FOLDERS[2] / "journal.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:8]) + "\n")  # as if it had been killed
    (tmp_path / "out" / FOLDERS[2] / "state" / "head.safetensors").unlink()
    again = launch(2, CLI, *command)
    assert again.returncode == 0, again.stderr
    assert trees(tmp_path / "out") == before
    other = launch(1, CLI, *command, "--seed", 7)
    assert "holds a run of another prompt or recipe" in other.stderr


def test_another_number_of_processes_than_expected_stops_with_the_command_that_is_right(tmp_path: Path) -> None:
    found = launch(2, CLI, "generate", "a prompt", "--model", "toy", "--out", tmp_path / "run", "--processes", 4)
    assert found.returncode != 0
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("Error: ")]
    assert "--processes 4, but 2 were started. Start them with torchrun --nproc_per_node 4" in line


@pytest.mark.parametrize(
    ("given", "processes", "many", "expected"),
    [
        ({}, 1, False, (1, 1)),
        ({}, 4, False, (1, 4)),
        ({}, 4, True, (4, 1)),
        ({"candidates": 2}, 4, True, (2, 2)),
        ({"prompts": 2}, 6, True, (2, 3)),
        ({"prompts": 2, "candidates": 3}, 6, True, (2, 3)),
        ({"candidates": 3}, 3, False, (1, 3)),
    ],
)
def test_groups_make_up_the_processes(
    given: dict[str, int], processes: int, many: bool, expected: tuple[int, int]
) -> None:
    assert sizes(ParallelSettings(**given), processes, many_prompts=many) == expected


@pytest.mark.parametrize(
    ("given", "processes", "many", "message"),
    [
        ({"candidates": 4}, 1, False, "parallel.candidates = 4 asks for 4 processes, but 1 was started"),
        ({"candidates": 3}, 4, True, "asks for a multiple of 3 processes, but 4 were started"),
        ({"prompts": 2, "candidates": 3}, 4, True, "asks for 6 processes, but 4 were started"),
        ({"prompts": 2}, 2, False, "needs a file of prompts"),
    ],
)
def test_groups_that_do_not_are_refused(given: dict[str, int], processes: int, many: bool, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        sizes(ParallelSettings(**given), processes, many_prompts=many)
