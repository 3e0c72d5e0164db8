"""Name tables: lazy targets, unknown names, taken names."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from streamt1_plugins.errors import PluginError, UnknownNameError
from streamt1_plugins.plugins.registry import Entry, Table, load_target

if TYPE_CHECKING:
    from pathlib import Path


def table(*names: str) -> Table[Entry]:
    made: Table[Entry] = Table("reward")
    for name in names:
        made.add(Entry(name, f"module_{name}:Reward", f"dist-{name}"))
    return made


def test_an_unknown_name_gets_a_guess_and_the_known_ones() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Unknown reward 'hpsv2'\. Did you mean 'hpsv3'\? Known: aesthetic, hpsv3\."
    ):
        table("hpsv3", "aesthetic")["hpsv2"]


def test_a_far_name_gets_no_guess() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown reward 'zzz'\. Known: hpsv3\."):
        table("hpsv3")["zzz"]


def test_an_empty_table_says_so() -> None:
    with pytest.raises(UnknownNameError, match="Known: none"):
        table()["x"]


def test_a_taken_name_keeps_the_first_and_names_both() -> None:
    names = table("a")
    with pytest.raises(
        PluginError, match=r"register the reward 'a': dist-a \(module_a:Reward\) and other \(other:Reward\)"
    ):
        names.add(Entry("a", "other:Reward", "other"))
    assert names["a"].origin == "dist-a"
    assert "a" in names
    assert "b" not in names


def test_nothing_is_imported_before_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_target.py").write_text("Reward = 7", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    names: Table[Entry] = Table("reward")
    names.add(Entry("lazy", "lazy_target:Reward", "acme"))
    entry = names["lazy"]
    assert "lazy_target" not in sys.modules
    assert entry.load() == 7


def test_a_missing_module_says_who_needs_it_and_how_to_install_it() -> None:
    entry = Entry("fancy", "no_such_module.sub:Reward", "acme-rewards", extra="acme-rewards[fancy]")
    with pytest.raises(
        PluginError, match=r"'fancy' of acme-rewards needs 'no_such_module'.*pip install 'acme-rewards\[fancy\]'"
    ):
        entry.load()


def test_a_missing_module_without_an_extra_gives_no_command() -> None:
    with pytest.raises(PluginError) as caught:
        load_target("no_such_module:X", "'x' of acme")
    assert "pip" not in str(caught.value)


def test_a_target_without_its_attribute_is_named() -> None:
    with pytest.raises(PluginError, match=r"'x' of acme points to 'json:nothing', but 'json' has no 'nothing'"):
        load_target("json:nothing", "'x' of acme")


@pytest.mark.parametrize("source", ["1 / 0", "import json\njson.nothing"])
def test_a_module_that_breaks_on_import_is_named(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "breaks_on_import.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"Importing 'breaks_on_import' for 'x' of acme failed: \w+Error"):
        load_target("breaks_on_import:X", "'x' of acme")
