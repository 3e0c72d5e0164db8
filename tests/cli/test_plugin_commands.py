"""Commands of plugins: none replaces another one, and one that cannot be read stops no other."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from streamt1_plugins import hookimpl
from streamt1_plugins.cli.plugin_commands import plugin_commands
from streamt1_plugins.plugins import discovery as hooks
from tests.cli.calling import call, one_line
from tests.third_party.fresh import plugin


def adding(*names: str) -> Any:
    @hookimpl
    def add(cli: typer.Typer) -> None:
        for name in names:
            cli.command(name)(lambda: typer.echo("hello"))

    return plugin(streamt1_add_commands=add)


def failing(error: BaseException) -> Any:
    @hookimpl
    def add(cli: typer.Typer) -> None:
        cli.command("half")(lambda: None)
        raise error

    return plugin(streamt1_add_commands=add)


@hookimpl
def odd(cli: typer.Typer) -> None:
    cli.registered_commands.append(5)  # type: ignore[arg-type]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> hooks.Discovery:
    made = hooks.Discovery()
    parts = {
        "one": adding("greet", "wave"),
        "other": adding("greet", "generate"),
        "exits": failing(SystemExit(0)),
        "stops": failing(StopIteration()),
        "odd": plugin(streamt1_add_commands=odd),
    }
    for name, part in parts.items():
        made.add(part, name=name, origin=f"{name}-dist")
    monkeypatch.setattr(hooks, "discovery", lambda: made)
    return made


def test_commands_that_cannot_be_read_or_are_built_in_are_listed_as_broken(found: hooks.Discovery) -> None:
    commands = plugin_commands(found, {"generate"})
    assert {"greet", "wave"} <= {*commands}
    assert not {"generate", "half"} & {*commands}
    assert {broken.name: broken.reason.partition(":")[0] for broken in found.broken} == {
        "other": "it adds the command 'generate', which is built in and stays what it is",
        "exits": "SystemExit",
        "stops": "StopIteration",
        "odd": "AttributeError",
    }


@pytest.mark.usefixtures("found")
def test_the_others_run_and_a_contested_one_is_an_error_where_it_is_used() -> None:
    assert call("wave").stdout == "hello\n"
    for given in (["greet"], ["greet", "--loud", "x"]):
        assert one_line(call(*given)).startswith(
            "Error: Two plugins add the command 'greet': 'one' of one-dist and 'other' of other-dist. Skip one"
        )
    assert "Added by 'one' of one-dist and 'other' of" in " ".join(call("--help").stdout.split())
    assert "Generate a video for PROMPT" in call("generate", "--help").stdout
