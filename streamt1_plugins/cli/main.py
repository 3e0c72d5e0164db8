"""The command line. Nothing here imports torch, so that `streamt1 --help` is there at once."""

from __future__ import annotations

from typing import Annotated

import typer

from streamt1_plugins import __version__
from streamt1_plugins.cli import recipes
from streamt1_plugins.cli.base import USER_ERROR, ErrorGroup, complain
from streamt1_plugins.cli.compare import compare
from streamt1_plugins.cli.generate import generate
from streamt1_plugins.cli.new_reward import new_reward
from streamt1_plugins.cli.plugins import plugins
from streamt1_plugins.cli.replay import replay
from streamt1_plugins.cli.report import report
from streamt1_plugins.cli.serve_reward import serve_reward
from streamt1_plugins.errors import StreamT1Error, foreign_code

EXAMPLES = """Examples:

streamt1 generate "a red circle moving right on a blue background"

streamt1 generate "two squares" --recipe best-of-n -o search.top_k=8 --seed 7 --out runs/squares
"""

app = typer.Typer(
    cls=ErrorGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(generate)
app.command()(compare)
app.command()(replay)
app.command()(report)
app.command()(plugins)
app.command()(serve_reward)
app.command()(new_reward)
app.add_typer(recipes.app, name="recipes")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def streamt1(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Test-time scaling for autoregressive diffusers video pipelines."""


def main() -> None:
    """Run the command line, with the commands of plugins."""
    from streamt1_plugins.plugins.discovery import discovery

    try:
        found = discovery()
        with foreign_code("A plugin's commands"):
            found.add_commands(app)
    except StreamT1Error as error:
        complain(error)
        raise SystemExit(USER_ERROR) from error
    app()
