"""`streamt1 studio`: a local page on which a person watches a search, overrules it and changes the prompt.

It uses the public names of `streamt1_plugins` alone. `Studio` serves a pipeline of your own:
``Studio(pipe, "runs").serve()``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamt1_plugins import hookimpl

if TYPE_CHECKING:
    import typer

    from streamt1_studio.studio import Studio as Studio

__all__ = ["Studio"]


@hookimpl
def streamt1_add_commands(cli: typer.Typer) -> None:
    """Add `streamt1 studio`."""
    from streamt1_studio.command import studio

    cli.command()(studio)


def __getattr__(name: str) -> Any:
    if name == "Studio":
        from streamt1_studio.studio import Studio

        return Studio
    raise AttributeError(name)
