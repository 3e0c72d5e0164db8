"""The samples of the command line in the documentation are what the commands print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from streamt1_plugins.cli import main as cli
from tests.cli.calling import generate
from tests.docs.samples import ROOT, Sample, same, samples

HELP = ROOT / "docs" / "cli-help.md"
CLI = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def parameters() -> list[Any]:
    return [
        pytest.param(each, marks=[pytest.mark.slow] if each.is_slow else [], id=each.commands[0]) for each in samples()
    ]


@pytest.mark.parametrize("sample", parameters())
def test_a_sample_is_what_its_commands_print(sample: Sample) -> None:
    found = sample.run()
    assert same(sample.text, found), f"stale, rewrite it with: python tests/docs/samples.py\n{found}"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("in 3.6 s, seed 42", "in 12.1 s, seed 42", True),
        ("in 3.6 s, seed 42", "in 3.6 s, seed 43", False),
        ("score 0.994", "score 0.990", True),
        ("score 0.994", "score 0.974", False),
        ("one 1.0", "one 1.0 2.0", False),
    ],
)
def test_what_counts_as_the_same(one: str, other: str, expected: bool) -> None:
    assert same(one, other) is expected


def commands(command: Any, path: str) -> Iterator[str]:
    """Every command and group by its full name."""
    yield path
    for name in command.list_commands(None) if hasattr(command, "list_commands") else []:
        yield from commands(command.get_command(None, name), f"{path} {name}")


def test_the_help_of_every_command_is_a_sample() -> None:
    shown = {command for sample in samples() if sample.page == HELP for command in sample.commands}
    assert shown == {f"{path} --help" for path in commands(typer.main.get_command(cli.app), "streamt1")}


def keys(data: Any, prefix: str = "") -> set[str]:
    if not isinstance(data, dict) or prefix in ("versions.", "reward_profile."):
        return {prefix}
    return {key for name, value in data.items() for key in keys(value, f"{prefix}{name}.")}


def test_the_documented_summary_has_the_keys_of_a_real_one(tmp_path: Path) -> None:
    (text,) = (each for each in re.findall(r"```json\n(.*?)```", CLI, re.DOTALL) if '"cost"' in each)
    assert generate("--out", str(tmp_path / "run"), "-q").exit_code == 0
    documented = keys(json.loads(text)) - {"cost.latent_frames_previewed."}  # the toy pipeline has no previews
    assert documented == keys(json.loads((tmp_path / "run" / "summary.json").read_text()))
