"""Calling the command line inside this process, with the toy pipeline as its model."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from streamt1_plugins.cli import main as cli
from streamt1_plugins.cli.running import LOADING

RECORD = sorted(
    ["journal.jsonl", "recipe.yaml", "report.html", "state", "strips", "summary.json", "tree.json", "video.mp4"]
)
"""What a run folder holds."""


def call(*args: str) -> Any:
    return CliRunner().invoke(cli.app, list(args))


def generate(*args: str) -> Any:
    return call("generate", "a prompt", "--model", "toy", *args)


def one_line(result: Any) -> str:
    """The message of a user error: one line on standard error, no traceback, exit code 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line != LOADING]
    assert len(lines) == 1, result.stderr
    return lines[0]
