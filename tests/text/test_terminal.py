"""The console prints its own styles, and no sequence of a text."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

from rich.progress import Progress, TextColumn
from rich.table import Table

from streamt1_plugins.text.terminal import Console

EVIL = "a\x1b[2J\x9b1m\u202eb"
SHOWN = r"a\x1b[2J\x9b1m\u202eb"


def printed(**settings: object) -> tuple[Console, StringIO]:
    file = StringIO()
    return Console(file=file, width=100, **settings), file


def test_texts_tables_and_tracebacks_are_printable() -> None:
    console, file = printed()
    table = Table(EVIL)
    table.add_row(EVIL)
    console.print(EVIL, markup=False)
    console.print(table)
    try:
        raise ValueError(EVIL)
    except ValueError:
        console.print_exception()
    assert file.getvalue().count(SHOWN) >= 2
    assert not set(file.getvalue()) & {"\x1b", "\x9b", "\u202e"}


def test_a_bar_is_drawn_with_its_own_sequences_alone() -> None:
    console, file = printed(force_terminal=True)
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bar:
        bar.add_task(EVIL, total=1)
        bar.refresh()
    assert "\x1b[2J" not in file.getvalue()
    assert "\x9b" not in file.getvalue()


def test_styles_stay() -> None:
    console, file = printed(force_terminal=True, color_system="standard")
    console.print("[red]red[/red]")
    assert "\x1b[31mred\x1b[0m" in file.getvalue()


ROOT = Path(__file__).parents[2]
RAW = re.compile(r"typer\.(echo|secho)\(|from rich\.console import .*\bConsole\b|\bstd(out|err)\.write\(")
ALLOWED = {"streamt1_plugins/cli/base.py", "streamt1_plugins/cli/reward_worker.py"}
"""Where `echo` is, and the process whose output its parent prints."""


def test_everything_is_printed_through_the_one_function_and_the_one_console() -> None:
    files = [path for room in ("streamt1_plugins", "adapters", "rewards") for path in (ROOT / room).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if RAW.search(path.read_text(encoding="utf-8"))}
    assert found - ALLOWED == set(), "print with streamt1_plugins.cli.base.echo, or streamt1_plugins.text.terminal"
