"""What all commands use: errors as one line, options as a dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from streamt1_plugins import RecipeError
from streamt1_plugins.cli.base import ErrorGroup, complain, takes, terminal
from tests.cli.calling import call, one_line


@pytest.mark.parametrize("args", [["--debug", "generate", ""], ["generate", "", "--debug"]])
def test_debug_shows_the_traceback_too(args: list[str]) -> None:
    result = call(*args)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: The prompt is empty")


def test_a_complaint_is_one_red_line(capsys: pytest.CaptureFixture[str]) -> None:
    complain("Not\n  here.")
    assert capsys.readouterr().err == "Error: Not here.\n"


def raising(error: BaseException) -> Any:
    """The result of a command that raises."""
    app = typer.Typer(cls=ErrorGroup)
    app.callback()(lambda: None)

    @app.command()
    def run() -> None:
        raise error

    return CliRunner().invoke(app, ["run"])


def test_an_error_of_the_package_is_one_line() -> None:
    assert one_line(raising(RecipeError("Not\nso."))) == "Error: Not so."


def test_ctrl_c_has_its_own_exit_code() -> None:
    result = raising(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "Interrupted.\n")


def test_any_other_error_keeps_its_traceback() -> None:
    assert isinstance(raising(ZeroDivisionError()).exception, ZeroDivisionError)


@dataclass(frozen=True)
class Options:
    word: Annotated[str, typer.Argument(help="A word.")]
    times: Annotated[int, typer.Option("--times", "-t", min=1)] = 1
    flags: Annotated[list[str] | None, typer.Option("--flag")] = None


def test_a_dataclass_becomes_arguments_and_options() -> None:
    app = typer.Typer()

    @app.command()
    @takes(Options)
    def say(options: Options) -> None:
        """Say a word."""
        typer.echo(f"{options}")

    result = CliRunner().invoke(app, ["hi", "-t", "2", "--flag", "a", "--flag", "b"])
    assert result.stdout == "Options(word='hi', times=2, flags=['a', 'b'])\n"
    assert CliRunner().invoke(app, ["hi", "-t", "0"]).exit_code == 2
    assert "Say a word." in CliRunner().invoke(app, ["--help"]).stdout


def test_tables_are_wide_where_there_is_no_terminal() -> None:
    assert terminal().width == 160
