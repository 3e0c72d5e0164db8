"""The tutorial runs, with shorter videos."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamt1_plugins.cli.main import app
from streamt1_tinyworld.world import VOCABULARY, WORDS

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```bash\nstreamt1 (.*?)\n```", TEXT)
LOADED, REWARD = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_words_of_the_bundled_model_are_listed() -> None:
    rows = [f"| {kind} | {', '.join(words)} |" for kind, words in VOCABULARY.items()]
    assert "\n".join(["<!-- vocabulary -->", "| | |", "|---|---|", *rows, "<!-- end -->"]) in TEXT
    assert {word for words in VOCABULARY.values() for word in words} == set(WORDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_makes_a_run_folder(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*shlex.split(command), "--num-frames", "21", "--quiet"])
    assert result.exit_code == 0, result.output
    (folder,) = tmp_path.glob("runs/*")
    assert {"video.mp4", "report.html", "recipe.yaml", "summary.json"} <= {path.name for path in folder.iterdir()}


def run_first_block() -> dict[str, Any]:
    """What the first block defines, with a video of two chunks."""
    found: dict[str, Any] = {}
    exec(LOADED.replace('background")', 'background", num_frames=21)'), found)
    return found


def test_the_python_block_prints_the_winner(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = run_first_block()["pipe"]
    assert capsys.readouterr().out == f"8 candidates, winner {pipe.tree.winner}\n"


def test_the_reward_gives_every_candidate_a_reading(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_first_block()
    exec(REWARD.replace('right")', 'right", num_frames=9)'), names)
    printed = capsys.readouterr().out.splitlines()[-1]
    assert printed.count(".") == len(names["pipe"].tree.chunk(0)) == 4
