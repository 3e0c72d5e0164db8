"""Modules that are imported late, and imports without the garbage collector."""

from __future__ import annotations

import gc
import sys

import pytest

from streamt1_plugins import deferred
from streamt1_plugins.process.imports import uncollected


def test_a_deferred_module_is_imported_where_it_is_first_used(monkeypatch: pytest.MonkeyPatch) -> None:
    colorsys = deferred("colorsys")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert repr(colorsys) == "deferred('colorsys')"
    assert "colorsys" not in sys.modules
    assert colorsys.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
    assert "colorsys" in sys.modules


def test_a_deferred_module_that_is_not_there_is_an_import_error_where_it_is_used() -> None:
    missing = deferred("no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        _ = missing.anything


def interrupted() -> None:
    with uncollected():
        assert not gc.isenabled()
        raise KeyboardInterrupt


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_given_back_as_it_was(was_on: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if was_on else gc.disable)()
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert gc.isenabled() is was_on
    finally:
        (gc.enable if before else gc.disable)()
