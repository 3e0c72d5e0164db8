"""Run folders of version 0.1 open, resume and replay; `tests/data/runs-0.1` holds them as that version wrote them.

`finished` and `interrupted` (after two of three chunks) are of the bundled tinyworld model, `toy` (after two of six) of
the tests' own pipeline. `NAME.expected.json` is the tree that the uninterrupted run had.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import streamt1_plugins as streamt1
from streamt1_plugins.cli import main as cli
from streamt1_plugins.replay import regenerate
from streamt1_plugins.runs import journal
from tests.toy import ToyPipeline

OLD = Path(__file__).parents[1] / "data" / "runs-0.1"
NAMES = ("finished", "interrupted", "toy")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the folders that a test may write to."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def check_against(expected: dict[str, Any], tree: dict[str, Any]) -> None:
    """Equal to the last bit where the machine is like the one that recorded it, else as close as float32 allows."""
    recorded_here = (torch.__version__, torch.backends.cpu.get_cpu_capability()) == (expected["torch"], expected["cpu"])
    close = 0.0 if recorded_here else 1e-4
    assert tree["winner"] == expected["tree"]["winner"]
    assert tree["final"] == pytest.approx(expected["tree"]["final"], rel=0, abs=close)
    assert len(tree["nodes"]) == len(expected["tree"]["nodes"])
    for found, wanted in zip(tree["nodes"], expected["tree"]["nodes"], strict=True):
        for name in ("id", "parent", "seed", "propagated", "route", "fate", "rank", "problem", "stage"):
            assert found[name] == wanted[name], (wanted["id"], name)
        for name in ("short", "long", "score"):
            assert found[name] == pytest.approx(wanted[name], rel=0, abs=close), (wanted["id"], name)
        if recorded_here:
            assert found["rewards"] == wanted["rewards"]


@pytest.mark.parametrize("name", NAMES)
def test_the_journal_gives_the_tree_of_its_time(name: str) -> None:
    assert journal.tree_of(journal.read(OLD / name)).to_dict() == load(OLD / name / "tree.json")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_written(old: Path, name: str) -> None:
    result = CliRunner().invoke(cli.app, ["report", str(old / name)])
    assert result.exit_code == 0, result.output
    page = (old / name / "report.html").read_text(encoding="utf-8")
    assert all(node["id"] in page for node in load(OLD / name / "tree.json")["nodes"])


def test_an_interrupted_run_of_the_toy_resumes_to_the_recorded_winner(old: Path) -> None:
    streamt1.resume(old / "toy", ToyPipeline())
    check_against(load(OLD / "toy.expected.json"), load(old / "toy" / "tree.json"))


def test_an_interrupted_run_of_a_bundled_model_resumes_to_the_recorded_winner(old: Path) -> None:
    streamt1.resume(old / "interrupted")
    check_against(load(OLD / "interrupted.expected.json"), load(old / "interrupted" / "tree.json"))


def test_a_finished_run_is_replayed(old: Path) -> None:
    replayed = CliRunner().invoke(cli.app, ["replay", str(old / "finished")])
    assert replayed.exit_code == 0, replayed.output
    assert Path(replayed.stdout.strip()).stat().st_size


def test_a_replay_gives_the_frames_of_the_resumed_run(old: Path) -> None:
    video = streamt1.resume(old / "toy", ToyPipeline())
    assert torch.equal(
        regenerate(OLD / "toy", "001.01", ToyPipeline()), regenerate(old / "toy", "001.01", ToyPipeline())
    )
    assert torch.equal(regenerate(old / "toy", pipe=ToyPipeline()), video)
