"""The libraries' bars for loading a folder: hidden in every command, those of plugins too, and as before after it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import diffusers.utils.logging
import pytest
import transformers.utils.logging
import typer
from huggingface_hub.utils import are_progress_bars_disabled

from streamt1_plugins import hookimpl
from streamt1_plugins.cli import loading_bars
from streamt1_plugins.cli.loading_bars import without_loading_bars
from streamt1_plugins.plugins import discovery as hooks
from tests.cli.calling import call

if TYPE_CHECKING:
    from pathlib import Path

LATE = """
_tqdm_active = True

def enable_progress_bar():
    global _tqdm_active
    _tqdm_active = True

def disable_progress_bar():
    global _tqdm_active
    _tqdm_active = False
"""


def bars() -> list[bool]:
    """Whether diffusers, transformers and downloads show bars."""
    libraries: tuple[Any, ...] = (diffusers.utils.logging, transformers.utils.logging)
    return [*(each._tqdm_active for each in libraries), not are_progress_bars_disabled()]


class Loading:
    """A plugin with a command that loads a model in its own way."""

    def __init__(self) -> None:
        self.during: list[bool] = []

    @hookimpl
    def streamt1_add_commands(self, cli: typer.Typer) -> None:
        @cli.command()
        def open_model(fail: bool = False) -> None:
            self.during = bars()
            if fail:
                raise typer.Exit(1)


@pytest.mark.parametrize("fail", [False, True])
def test_the_command_of_a_plugin_shows_none_and_gives_them_back(fail: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found, plugin = hooks.Discovery(), Loading()
    found.add(plugin, name="loading", origin="tests")
    monkeypatch.setattr(hooks, "discovery", lambda: found)
    before = bars()
    assert call("open-model", *["--fail"] * fail).exit_code == fail
    assert plugin.during == [False, False, before[2]]
    assert bars() == before


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a library's switch that is not imported yet."""
    name = "streamt1_late_switch"
    (tmp_path / f"{name}.py").write_text(LATE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(loading_bars, "SWITCHES", (name,))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_a_library_that_is_imported_inside_hides_its_bars_and_has_them_after(late: str) -> None:
    finders = list(sys.meta_path)
    with without_loading_bars():
        assert late not in sys.modules
        switch = import_module(late)
        assert not switch._tqdm_active
    assert switch._tqdm_active
    assert sys.meta_path == finders
    assert "exec_module" not in vars(switch.__spec__.loader)


def test_bars_that_were_off_stay_off(late: str) -> None:
    switch = import_module(late)
    switch.disable_progress_bar()
    with without_loading_bars():
        pass
    assert not switch._tqdm_active


def test_a_library_that_is_not_there_is_missing_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading_bars, "SWITCHES", ("streamt1_no_such_switch",))
    with without_loading_bars(), pytest.raises(ModuleNotFoundError):
        import_module("streamt1_no_such_switch")
