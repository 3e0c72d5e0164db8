"""docs/cli.md against the command line: every command and option, and none that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from streamt1_plugins.cli import main as cli

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every command below one, those of plugins included, with its full name."""
    below = command.list_commands(None) if hasattr(command, "list_commands") else []
    for name in below:
        yield from commands(command.get_command(None, name), f"{path} {name}")
    if not below:
        yield path, command


APP = typer.main.get_command(cli.app)


def test_every_command_and_option_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for path, command in commands(APP, "streamt1"):
        assert f"`{path}" in text, path
        section = text.partition(f"`{path}")[2].partition("\n## ")[0]
        for parameter in command.params:
            assert parameter.help, (path, parameter.name)
            for option in parameter.opts:
                if option.startswith("-"):
                    assert f"`{option}" in section, (path, option)


def test_no_option_in_the_page_is_made_up() -> None:
    known = {"--help"}
    for _, command in commands(APP, "streamt1"):
        known |= {option for parameter in command.params for option in parameter.opts}
    known |= {option for parameter in APP.params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z-]+)", DOCS.read_text(encoding="utf-8"))) <= known
