"""`streamt1 studio`: its help, its errors, and its end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import streamt1_studio
from streamt1_studio.serving import Served
from tests.studio.standin import StandIn

SOURCES = Path(streamt1_studio.__file__).parents[1]


def app() -> typer.Typer:
    made = typer.Typer()
    streamt1_studio.streamt1_add_commands(made)
    made.command()(lambda: None)  # with one command alone there would be no name
    return made


def test_the_command_is_added_by_the_hook() -> None:
    result = CliRunner().invoke(app(), ["studio", "--help"])
    assert "--host" in result.output
    assert "Watch a search" in result.output


def test_the_hook_module_and_the_help_load_neither_torch_nor_a_server() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCES)!r}); import streamt1_studio.command;"
        " print({'torch', 'starlette', 'uvicorn'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_it_serves_until_ctrl_c_and_saves_what_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamt1_studio.studio.Hand", StandIn)
    opened = []

    def run(server: Served, studio: streamt1_studio.Studio) -> None:
        opened.append(studio.start("a prompt", "stream-t1", 0, None))
        while opened[0].state != "waiting":
            time.sleep(0.01)

    monkeypatch.setattr(Served, "run", run)
    result = CliRunner().invoke(app(), ["studio", str(tmp_path / "runs"), "--model", "toy", "--port", "0"])
    assert result.exit_code == 0, result.output
    assert "http://127.0.0.1:" in result.output
    assert opened[0].state == "parked"


def test_a_missing_server_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "streamt1_studio.serving", raising=False)
    result = CliRunner().invoke(app(), ["studio", "--model", "toy"])
    assert "streamt1-plugins[studio]" in str(result.exception)
