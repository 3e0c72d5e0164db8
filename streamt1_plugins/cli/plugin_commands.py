"""The subcommands that plugins add: none replaces another one, and one plugin that fails stops no other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from streamt1_plugins.errors import PluginError, foreign_code

if TYPE_CHECKING:
    from collections.abc import Container

    from streamt1_plugins.plugins.discovery import Discovery


def plugin_commands(found: Discovery, built_in: Container[str]) -> dict[str, Any]:
    """The commands of plugins by name. A plugin whose commands cannot be read, or are taken, is listed as broken.

    A built-in command stays what it is. A command that two plugins add is an error where it is used.
    """
    commands: dict[str, Any] = {}
    origins: dict[str, list[str]] = {}
    for plugin, origin in found.plugins.items():
        for name, command in _commands_of(found, plugin).items():
            owner = f"{plugin!r} of {origin}"
            if name in built_in:
                why = f"it adds the command {name!r}, which is built in and stays what it is"
                found.mark_broken(plugin, origin, PluginError(why))
            else:
                commands.setdefault(name, command)
                origins.setdefault(name, []).append(owner)
    return commands | {name: _contested(name, owners) for name, owners in origins.items() if len(owners) > 1}


def _commands_of(found: Discovery, plugin: str) -> dict[str, Any]:
    """The commands of one plugin, added to an app of its own."""
    origin, app = found.plugins[plugin], typer.Typer()
    try:
        found.add_commands(app, plugin)
        with foreign_code(f"Plugin {plugin!r} of {origin}", passes=()):
            return dict(typer.main.get_group(app).commands)
    except PluginError as error:
        found.mark_broken(plugin, origin, error)
        return {}


def _contested(name: str, owners: list[str]) -> TyperCommand:
    def refuse(**_: object) -> None:
        raise PluginError(f"Two plugins add the command {name!r}: {' and '.join(owners)}. {REMEDY}")

    context = {"ignore_unknown_options": True, "allow_extra_args": True}
    return TyperCommand(name, callback=refuse, help=f"Added by {' and '.join(owners)}.", context_settings=context)


REMEDY = "Skip one with STREAMT1_DISABLE_PLUGINS=<plugin name>."
