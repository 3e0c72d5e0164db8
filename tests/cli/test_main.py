"""The command line as a whole: quick to start, with the commands of plugins, and plugins by file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest
import typer

import streamt1_plugins
from streamt1_plugins import hookimpl
from streamt1_plugins.plugins import discovery as hooks
from streamt1_plugins.plugins.named import PLUGINS, named
from tests.cli.calling import call, one_line
from tests.third_party.fresh import distribution


def test_help_comes_at_once_and_shows_examples() -> None:
    seconds = []
    for _ in range(3):
        start = perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "streamt1_plugins", "--help"], capture_output=True, text=True, check=True
        )
        seconds.append(perf_counter() - start)
    assert min(seconds) < 4  # 0.2 s on an idle machine; the bar is 0.7 s
    assert done.stdout.count(" streamt1 generate") == 2
    for command in ("generate", "plugins", "recipes"):
        assert command in done.stdout


def test_neither_help_nor_plugins_import_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from streamt1_plugins.cli.main import app;"
        "[CliRunner().invoke(app, args) for args in (['--help'], ['plugins'], ['recipes', 'list'])];"
        "sys.exit(str([name for name in ('torch', 'diffusers', 'transformers', 'av') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_version_and_no_arguments() -> None:
    assert call("--version").stdout.strip() == streamt1_plugins.__version__
    assert "Usage" in call().output


# Commands of plugins.


class Greeting:
    @hookimpl
    def streamt1_add_commands(self, cli: typer.Typer) -> None:
        @cli.command()
        def greet() -> None:
            """Say hello."""
            typer.echo("hello")

        @cli.command()
        def report() -> None:
            """Has the name of a command that is there already."""


@pytest.fixture
def greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hooks.Discovery()
    found.add(Greeting(), name="greeting", origin="tests")
    monkeypatch.setattr(hooks, "discovery", lambda: found)


@pytest.mark.usefixtures("greeting")
def test_the_commands_of_plugins_run_and_are_listed() -> None:
    assert call("greet").stdout == "hello\n"
    assert "Say hello." in call("--help").stdout


@pytest.mark.usefixtures("greeting")
def test_a_plugin_cannot_replace_a_command() -> None:
    assert "Write the page of RUN" in " ".join(call("report", "--help").stdout.split())
    (broken,) = json.loads(call("plugins", "--json").stdout)["broken"]
    assert (broken["name"], broken["reason"]) == (
        "greeting",
        "it adds the command 'report', which is built in and stays what it is",
    )


BROKEN = {
    "broken_exit": "import sys; sys.exit(0)",
    "broken_interrupt": "raise KeyboardInterrupt",
    "broken_stop": "raise StopIteration",
    "broken_message": "class Bad(BaseException):\n    def __str__(self): raise GeneratorExit\nraise Bad",
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins that misbehave at import, installed, and name tables that are thrown away."""
    for name, source in BROKEN.items():
        distribution(tmp_path, name.replace("_", ""), name, source, point=name)
    monkeypatch.syspath_prepend(tmp_path)
    found = hooks.Discovery()
    monkeypatch.setattr(hooks, "_found", lambda: found)


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    "command",
    [
        "--version",
        "--help",
        "generate --help",
        "recipes list",
        "recipes show plain",
        "recipes validate plain",
        "plugins",
    ],
)
def test_broken_plugins_stop_no_command_that_needs_none(command: str) -> None:
    result = call(*command.split())
    assert result.exit_code == 0, result.output
    assert "broken" not in result.stderr


@pytest.mark.usefixtures("broken")
def test_an_unknown_command_names_the_plugins_that_may_have_it() -> None:
    result = call("greet")
    assert result.exit_code == 2
    shown = " ".join(result.stderr.replace("│", " ").split())
    assert "No such command 'greet'" in shown
    assert "One of the plugins that did not load may have it: 'broken_exit' of brokenexit (SystemExit: 0)" in shown
    assert "and 1 more. See `streamt1 plugins`." in shown


@pytest.mark.usefixtures("broken")
def test_an_unknown_name_in_a_recipe_names_them_too() -> None:
    message = one_line(call("generate", "x", "--model", "tinyworld", "-o", "rewards.long.acme={}"))
    assert "Unknown reward 'acme'." in message
    assert "'broken_interrupt' of brokeninterrupt (KeyboardInterrupt)" in message


@pytest.mark.usefixtures("broken")
def test_in_strict_mode_a_broken_plugin_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hooks.STRICT, "0")
    assert call("plugins").exit_code == 0
    monkeypatch.setenv(hooks.STRICT, "1")
    message = one_line(call("plugins"))
    assert (
        "Plugin 'broken_exit' of brokenexit (STREAMT1_DISABLE_PLUGINS=broken_exit runs without it) is broken" in message
    )
    assert "SystemExit: 0" in message
    assert "broken_exit.py, line 1" in message
    monkeypatch.setenv(hooks.STRICT, "")
    assert one_line(call("--strict", "plugins")) == message
    assert call("--strict", "--version").exit_code == 0


# Plugins by file.

SOURCE = """
import streamt1_plugins

@streamt1_plugins.hookimpl
def streamt1_register_rewards(register):
    register("{name}", target="{name}:Reward")

@streamt1_plugins.hookimpl
def streamt1_add_commands(cli):
    cli.command("{name}")(lambda: None)
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Two files with plugins, and name tables that are thrown away."""
    names = ["one_file_a", "one_file_b"]
    for name in names:
        Path(f"{name}.py").write_text(SOURCE.format(name=name), encoding="utf-8")
    monkeypatch.setenv(PLUGINS, "")
    found = hooks.Discovery()
    monkeypatch.setattr(hooks, "discovery", lambda: found)
    yield [f"{name}.py" for name in names]
    for name in names:
        sys.modules.pop(name, None)


def test_plugins_by_file_join_those_installed(files: list[str]) -> None:
    result = call("--plugin", files[0], "--plugin", files[1], "plugins", "--json")
    assert result.exit_code == 0, result.output
    for file in files:
        assert f'"origin": "{Path(file).absolute()}"' in result.stdout
    assert '"name": "tinyworld"' in result.stdout


def test_processes_that_the_command_starts_inherit_them(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr("streamt1_plugins.cli.plugins.offers", lambda _: seen.append(named()) or {})
    call("--plugin", files[0], "plugins")
    assert seen == [[str(Path(files[0]).absolute())]]
    assert named() == [], "the program that called the command does not"


def test_their_commands_are_listed(files: list[str]) -> None:
    assert "one_file_a" in call("--plugin", files[0], "--help").stdout
    assert call("--plugin", files[0], "one_file_a").exit_code == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "mine.py does not exist"),
        ("def broken(:", "mine.py failed: SyntaxError"),
        ("import sys\nsys.exit(0)", "mine.py failed: SystemExit: 0"),
        ("raise KeyboardInterrupt", "mine.py failed: KeyboardInterrupt"),
        ("raise StopIteration", "mine.py failed: StopIteration"),
        (
            "import streamt1_plugins\nraise streamt1_plugins.InputError('\\ud800')",
            r"mine.py failed: InputError: \ud800",
        ),
        ("x = 1", "implements no hook"),
    ],
)
def test_a_plugin_file_that_is_none_is_one_line(files: list[str], source: str | None, message: str) -> None:
    if source:
        Path("mine.py").write_text(source, encoding="utf-8")
    assert message in one_line(call("--plugin", "mine.py", "plugins"))
