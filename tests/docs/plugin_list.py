"""The list of plugins in docs/plugins.md: every name that this distribution registers, with one line each.

python tests/docs/plugin_list.py     # writes it into the page
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streamt1_plugins.plugins.build import POLICY_SECTIONS
from streamt1_plugins.plugins.discovery import Discovery

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "plugins.md"
OURS = "streamt1-plugins"


def line(target: Any) -> str:
    """The first sentence of a docstring, in one line, for the cell of a table."""
    text = " ".join((inspect.getdoc(target) or "").partition("\n\n")[0].split())
    sentence = re.match(r".*?[.](?= |$)", text)
    return (sentence[0] if sentence else text).replace("``", "`").replace("|", "\\|")


def described(entries: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """The names of this distribution, with the line of the class behind each."""
    for entry in sorted(entries, key=lambda each: str(each.name)):
        if entry.origin == OURS:
            yield f"`{entry.name}`", line(entry.load())


def commands(found: Discovery) -> Iterator[tuple[str, str]]:
    """The commands that plugins add."""
    cli = typer.Typer()
    found.add_commands(cli)
    for each in cli.registered_commands:
        assert each.callback is not None
        yield f"`streamt1 {each.name or each.callback.__name__}`", line(each.callback)


def tables() -> str:
    """All plugins, a table for each kind."""
    found = Discovery()
    kinds = {
        "Adapters": described(found.adapters.values()),
        "Rewards": described(found.rewards.values()),
        **{f"{kind.capitalize()} policies": described(found.policies[kind].values()) for kind in POLICY_SECTIONS},
        "Observers": described(found.policies["observer"].values()),
        "Commands of plugins": commands(found),
    }
    return "\n\n".join(
        "\n".join([f"## {title}", "", "| name | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])
        for title, rows in kinds.items()
    )


def filled(text: str) -> str:
    """The page with its list made anew."""
    before, marker, rest = text.partition("<!-- plugins -->\n")
    _, end, after = rest.partition("<!-- end -->")
    assert marker, f"{PAGE.name} has no place for the list"
    assert end, f"{PAGE.name} has no end of the list"
    return f"{before}{marker}\n{tables()}\n\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
