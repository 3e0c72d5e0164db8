"""`streamt1 plugins`: what is installed, who offers it. Only name tables are read: no plugin's code is imported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from streamt1_plugins.commands.base import terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.hooks import Discovery


def plugins(as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False) -> None:
    """List the plugins and what they offer: adapters, rewards, policies, observers."""
    from streamt1_plugins.hooks import discovery

    found = offers(discovery())
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    console = terminal()
    for title, rows in found.items():
        if rows:
            console.print(title, style="bold")
            console.print(_table(rows))
            console.print()


def offers(found: Discovery) -> dict[str, list[dict[str, Any]]]:
    """Everything the plugins registered, as plain data."""
    return {
        "plugins": [{"name": name, "origin": origin} for name, origin in found.plugins.items()],
        "adapters": [
            {
                "name": entry.name,
                "origin": entry.origin,
                "pipelines": list(entry.pipelines),
                "bundled model": entry.model is not None,
                "suggested rewards": sorted({name for named in (entry.rewards or {}).values() for name in named}),
                "explicit": entry.explicit,
            }
            for entry in found.adapters.entries.values()
        ],
        "rewards": [
            {"name": entry.name, "origin": entry.origin, "extra": entry.extra, "target": entry.target}
            for entry in found.rewards.entries.values()
        ],
        "policies": [
            {"kind": kind, "name": entry.name, "origin": entry.origin, "target": entry.target}
            for kind, table in found.policies.items()
            for entry in table.entries.values()
        ],
        "disabled": [{"name": name} for name in found.disabled],
    }


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    # A column nobody fills only takes room.
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list):
        return escape(", ".join(value))
    return "" if value is None else escape(str(value))
