"""Shared by all commands, those of plugins too: errors as one line, options as a dataclass, terminals."""

from __future__ import annotations

import inspect
import os
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast, get_type_hints

import typer
from typer.core import TyperGroup

from streamt1_plugins.cli.loading_bars import without_loading_bars
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import StreamT1Error
from streamt1_plugins.process.threads import THREADS
from streamt1_plugins.runs.way_on import command_line
from streamt1_plugins.text.printable import one_line, printable
from streamt1_plugins.text.terminal import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

Options = TypeVar("Options")

Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Agree to the programs, addresses and paths that the recipe file or the run folder names."
    ),
]


def _set_threads(value: int | None) -> int | None:
    """Set the number of threads here, and in the processes that this one starts."""
    if value is not None:
        os.environ[THREADS] = str(value)
    return value


Threads = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="CPU threads. Default: as many as the model gains from.", callback=_set_threads
    ),
]

USER_ERROR, SOME_FAILED, INTERRUPTED = 2, 3, 130
"""Exit codes: a mistake that can be corrected, some of several videos not made, Ctrl-C."""
VARIABLES = "STREAMT1_"
USAGE_ERRORS = cast("tuple[type[Exception], ...]", typer.BadParameter.__bases__)
"""The base of the errors of the command line itself; typer brings a click of its own from some version on."""


class ErrorGroup(TyperGroup):
    """Commands that end with one red line instead of a traceback where the package raises an error on purpose."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before the command."""
        with _errors_as_lines(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _errors_as_lines(ctx):
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command line."""
        with ExitStack() as stack:
            stack.callback(_lasting.reset, _lasting.set(stack))
            stack.enter_context(_own_environment())
            stack.enter_context(command_line())
            stack.enter_context(without_loading_bars())
            return super().main(*args, **kwargs)


@contextmanager
def _own_environment() -> Iterator[None]:
    """Give this package's environment variables back as they were: options set them for processes that it starts."""
    before = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(VARIABLES) and name not in before]:
            del os.environ[name]
        os.environ.update(before)


_lasting: ContextVar[ExitStack | None] = ContextVar("lasting", default=None)


def for_the_command(context: AbstractContextManager[None]) -> None:
    """Enter a context that lasts until the command has ended, and its error, if any, has been printed."""
    stack = _lasting.get()
    if stack is not None:
        stack.enter_context(context)


@contextmanager
def _errors_as_lines(ctx: Any) -> Iterator[None]:
    """Turn an error of the package, and Ctrl-C, into a message and an exit code."""
    try:
        yield
    except StreamT1Error as error:
        if ctx.params.get("debug"):
            Console(stderr=True).print_exception()
        complain(error)
        raise typer.Exit(USER_ERROR) from error
    except (typer.Exit, typer.Abort):  # of a command that has ended; they are `RuntimeError`s
        raise
    except (RuntimeError, MemoryError, OSError) as error:
        if ctx.params.get("debug") or not _is_out_of_memory(error):
            raise
        complain(f"Memory ran out: {error}")
        raise typer.Exit(USER_ERROR) from error
    except KeyboardInterrupt as interrupt:
        typer.secho("Interrupted.", fg="red", err=True)
        raise typer.Exit(INTERRUPTED) from interrupt
    except USAGE_ERRORS as error:  # it repeats what was typed, or the name of a file that a shell filled in
        vars(error).update(message=printable(getattr(error, "message", "")))
        raise


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error that no run explains, as of loading a model, has this reason."""
    from streamt1_plugins.search.out_of_memory import is_out_of_memory

    return is_out_of_memory(error)


def complain(problem: object) -> None:
    """One red line on standard error."""
    typer.secho(f"Error: {one_line(problem)}", fg="red", err=True)


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print text that may come from elsewhere. It cannot steer the terminal."""
    typer.echo(printable(text), err=err, nl=nl)


def debug_everywhere(ctx: typer.Context, value: bool) -> bool:
    """The value of a subcommand's `--debug`, which is set for the whole command line, as by `streamt1 --debug`."""
    if value:
        ctx.find_root().params["debug"] = True
    return value


def takes(options: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """A decorator for a function of one dataclass: a command whose arguments and options are the dataclass's fields."""

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            function(
                options(**{name: user_path(each) if isinstance(each, Path) else each for name, each in given.items()})
            )

        command.__name__, command.__doc__ = function.__name__, function.__doc__
        hints = get_type_hints(options, include_extras=True)
        parameters = [
            parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(options).parameters.items()
        ]
        # Typer reads the signature; naming every option twice to please it would only invite them to differ.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = hints
        return command

    return decorate


def terminal() -> Console:
    """Standard output for tables: as wide as the terminal, and wide enough for long lines in a file or pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=160)
