"""`streamt1 studio`: a local page on which a person watches a search, overrules it and changes the prompt.

It uses the public names of `streamt1_plugins` alone. `Studio` makes takes with a pipeline of your own, and `Served`
gives it an address.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamt1_plugins import hookimpl

if TYPE_CHECKING:
    import typer

    from streamt1_studio.serving import Served as Served
    from streamt1_studio.studio import Studio as Studio

__all__ = ["Served", "Studio"]


@hookimpl
def streamt1_add_commands(cli: typer.Typer) -> None:
    """Add `streamt1 studio`."""
    from streamt1_studio.command import studio

    cli.command()(studio)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'serving' if name == 'Served' else 'studio'}"), name)
