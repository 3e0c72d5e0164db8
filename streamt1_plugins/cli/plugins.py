"""`streamt1 plugins`: the plugins and the names they register. Only name tables are read, unless --details is given."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table as Grid

from streamt1_plugins.cli.base import echo, terminal
from streamt1_plugins.errors import PluginError, foreign_code, shown
from streamt1_plugins.text.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.adapter import Capabilities
    from streamt1_plugins.plugins.discovery import Discovery
    from streamt1_plugins.plugins.registry import Entry, Table


def plugins(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
    details: Annotated[bool, typer.Option("--details", help="Add what rewards declare; imports them.")] = False,
) -> None:
    """List the plugins and what they offer: adapters, rewards, policies, observers. Broken ones have the reason."""
    from streamt1_plugins.plugins.discovery import discovery

    root: Any = ctx.find_root()
    root.command.list_commands(root)  # what plugins add can be broken, too
    found = offers(discovery())
    if details:
        found["rewards"] = [row | declared(discovery().rewards, row["name"]) for row in found["rewards"]]
    if as_json:
        echo(json.dumps(found, indent=2, default=shown))
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
        "broken": [asdict(each) for each in found.broken],
        "conflicts": [
            {"kind": table.kind, "name": name, "offered by": [f"{each.origin} ({each.path})" for each in rivals]}
            for table in found.tables
            for name, rivals in table.contested.items()
        ],
        "changes at import": [{"name": name, "put back": changed} for name, changed in found.changed.items()],
        "adapters": [
            {
                "name": entry.name,
                "origin": entry.origin,
                "pipelines": entry.pipelines,
                "bundled model": entry.model is not None,
                "suggested rewards": sorted({name for named in (entry.rewards or {}).values() for name in named}),
                "explicit": entry.explicit,
            }
            for entry in found.adapters.values()
        ],
        "capabilities": [
            {"adapter": entry.name, **capabilities(entry.capabilities)}
            for entry in found.adapters.values()
            if entry.capabilities
        ],
        "vocabularies": [
            {"adapter": entry.name, "kind": kind, "words": list(words)}
            for entry in found.adapters.values()
            for kind, words in (entry.vocabulary or {}).items()
        ],
        "refusals": [
            {"adapter": entry.name, "feature": feature.replace("_", " "), "reason": reason}
            for entry in found.adapters.values()
            if entry.capabilities
            for feature, reason in entry.capabilities.refusals.items()
        ],
        "rewards": [
            {"name": entry.name, "origin": entry.origin, "extra": entry.extra, "target": entry.path}
            for entry in found.rewards.values()
        ],
        "policies": [
            {"kind": kind, "name": entry.name, "origin": entry.origin, "target": entry.path}
            for kind, table in found.policies.items()
            for entry in table.values()
        ],
        "disabled": [{"name": name} for name in found.disabled],
    }


def capabilities(declared: Capabilities) -> dict[str, Any]:
    """What an adapter's ordinary session can do, in words."""
    return {
        "memory routes": sorted(declared.routes) or ["none"],
        "candidates per batch": str(declared.max_batch or "any"),
        "decode": declared.decode,
        "noise": declared.noise_stream.replace("_", " "),
        "stochastic steps": declared.stochastic_steps,
    }


def declared(rewards: Table[Entry], name: str) -> dict[str, Any]:
    """What a reward's class declares, or the reason why it cannot be read."""
    from streamt1_plugins.api.reward import DECLARED

    try:
        kind = rewards[name].load()
        with foreign_code(f"Reading the declarations of {name!r}"):
            return {key: getattr(kind, key, None) for key in DECLARED} | {"problem": None}
    except PluginError as error:
        return dict.fromkeys(DECLARED) | {"problem": str(error)}


def _table(rows: Sequence[dict[str, Any]]) -> Grid:
    table = Grid(box=None, pad_edge=False, header_style="dim")
    columns = [name for name in rows[0] if any(_cell(row[name]) for row in rows)]  # none that is empty in all rows
    for name in columns:
        table.add_column(name)
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return "" if value is None else escape(one_line(value if isinstance(value, str) else shown(value)))
