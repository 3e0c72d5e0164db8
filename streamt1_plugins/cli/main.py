"""The command line. Nothing here imports torch, so that `streamt1 --help` is quick."""

from __future__ import annotations

import gc
import os
import traceback
from contextlib import ExitStack
from typing import Annotated, Any

import typer

from streamt1_plugins import __version__
from streamt1_plugins.cli import recipes
from streamt1_plugins.cli.base import ErrorGroup, echo
from streamt1_plugins.cli.compare import compare
from streamt1_plugins.cli.export import export
from streamt1_plugins.cli.generate import generate
from streamt1_plugins.cli.plugins import plugins
from streamt1_plugins.cli.probe import probe
from streamt1_plugins.cli.replay import replay
from streamt1_plugins.cli.report import report
from streamt1_plugins.cli.scaffold import new_adapter, new_policy, new_reward
from streamt1_plugins.cli.seeds import WithSeeds
from streamt1_plugins.cli.serve_reward import serve_reward
from streamt1_plugins.errors import guess

RARELY = (20_000, 20, 20)
"""Thresholds of the garbage collector: most objects of a run are those of imported libraries, and stay."""

EXAMPLES = """Examples:

streamt1 generate "a red circle moving right on a blue background"

streamt1 generate "a green star moving left quickly" --recipe best-of-n -o search.top_k=8 --seed 7 --out runs/star

streamt1 --plugin my_rewards.py generate "a yellow square" -o rewards.long.warmth.weight=0.5
"""


class PluginGroup(ErrorGroup):
    """The commands of this package and, behind them, those of plugins, which are loaded when they are needed."""

    _is_complete = False

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, once all commands are known: a plugin that does not load leaves no half of it."""
        self._add_commands_of_plugins()
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands."""
        self._add_commands_of_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, None where there is none."""
        if cmd_name not in self.commands:
            self._add_commands_of_plugins()
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was named. Where there is none, the error has the plugins that did not load."""
        if self.get_command(ctx, args[0]) is None:
            from streamt1_plugins.plugins.discovery import discovery
            from streamt1_plugins.plugins.registry import hint

            if broken := hint(discovery().broken):
                ctx.fail(f"No such command {args[0]!r}.{guess(args[0], self.commands)}{broken}")
        return super().resolve_command(ctx, args)

    def _add_commands_of_plugins(self) -> None:
        from streamt1_plugins.cli.plugin_commands import plugin_commands
        from streamt1_plugins.plugins.discovery import discovery

        if not self._is_complete:
            self._is_complete = True
            self.commands.update(plugin_commands(discovery(), set(self.commands)))


app = typer.Typer(
    cls=PluginGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=WithSeeds)(generate)
app.command()(compare)
app.command()(probe)
app.command()(replay)
app.command()(report)
app.command()(export)
app.command()(plugins)
app.command()(serve_reward)
app.command()(new_reward)
app.command()(new_adapter)
app.command()(new_policy)
app.add_typer(recipes.app, name="recipes")


def _show_version(value: bool) -> None:
    if value:
        echo(__version__)
        raise typer.Exit


def _load_plugins(sources: list[str]) -> list[str]:
    """Load the named plugins here, and in the processes that this one starts."""
    if sources:
        from streamt1_plugins.plugins.discovery import discovery
        from streamt1_plugins.plugins.named import add_names

        discovery().add_named(sources)
        add_names(sources)
    return sources


def _be_strict(value: bool) -> None:
    """Set strict mode here, and in the processes that this one starts."""
    if value:
        from streamt1_plugins.plugins.discovery import STRICT

        os.environ[STRICT] = "1"


@app.callback()
def streamt1(
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="FILE|MODULE",
            help="Load a plugin that is not installed: a file my_rewards.py or a module. May be repeated.",
            callback=_load_plugins,
            is_eager=True,
            show_default=False,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="End with an error where a plugin is broken.", callback=_be_strict, is_eager=True
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Test-time scaling for autoregressive diffusers video pipelines."""


def main() -> None:
    """Run the command line."""
    gc.set_threshold(*RARELY)
    with ExitStack() as stack:
        stack.callback(gc.freeze)  # at its end the interpreter looks through all objects, which takes a second
        stack.push(_print_plainly)
        app()


def _print_plainly(kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
    """End with the traceback of an error that no command expects; its message may come from elsewhere."""
    if isinstance(error, Exception):
        echo("".join(traceback.format_exception(error)), err=True, nl=False)
        raise SystemExit(1)
