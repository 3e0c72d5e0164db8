"""Plugins that are named by file or module: found, named in errors, and inherited by other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError
from streamt1_plugins.plugins.discovery import DISABLE, Discovery
from streamt1_plugins.plugins.named import PLUGINS, add_names, load_plugin, named
from streamt1_plugins.plugins.registry import load_target

SOURCE = """
from dataclasses import dataclass
from streamt1_plugins import Reward, RewardOutput, hookimpl

@dataclass
class Warmth(Reward):
    strength: float = 1.0

    def score(self, inp):
        red, _, blue = inp.video.mean((1, 3, 4)).unbind(-1)
        return RewardOutput(self.strength * (red - blue))

@hookimpl
def streamt1_register_rewards(register):
    register("warmth", target="a_warm_plugin:Warmth")
    register("warmth-too", target=Warmth)
"""


@pytest.fixture(autouse=True)
def _modules_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(PLUGINS, "")
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a_warm_plugin.py"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def written(folder: Path, name: str, source: str) -> str:
    (folder / name).write_text(source, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize("text", ["a.py,b", "a.py{sep}b", " a.py , ,b,a.py{sep}"])
def test_the_variable_is_a_list(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, text.replace("{sep}", os.pathsep))
    assert named() == ["a.py", "b"]


def test_added_names_follow_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PLUGINS, "there")
    add_names(["mine.py", "a.module", "there"])
    assert named() == ["there", str(tmp_path / "mine.py"), "a.module"]


def test_a_file_is_registered_like_an_installed_plugin(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, str(file))
    found = Discovery()
    assert found.plugins["a_warm_plugin"] == str(file)
    entry = found.rewards["warmth"]
    assert (entry.origin, entry.path) == (str(file), "a_warm_plugin:Warmth")
    assert entry.load()(strength=2.0).strength == 2.0


def test_a_class_may_be_the_target(file: Path) -> None:
    found = Discovery()
    found.add_named([str(file)])
    entry = found.rewards["warmth-too"]
    assert entry.load() is found.rewards["warmth"].load()
    assert entry.path == "a_warm_plugin:Warmth"


def test_a_module_is_registered_by_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    found = Discovery()
    found.add_named(["a_warm_plugin"])
    assert found.plugins["a_warm_plugin"] == str(file)


def test_naming_it_twice_registers_it_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.chdir(file.parent)
    found = Discovery()
    found.add_named([str(file), file.name, "a_warm_plugin", str(file)])
    assert "warmth" in found.rewards


def test_a_disabled_file_offers_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, str(file))
    monkeypatch.setenv(DISABLE, "a_warm_plugin")
    assert "warmth" not in Discovery().rewards


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"The plugin file .*/nowhere\.py does not exist\."):
        load_plugin(str(tmp_path / "nowhere.py"))


def test_a_missing_module_is_named() -> None:
    with pytest.raises(PluginError, match=r"'no_such_plugin' is no module .* Give a file as FILE\.py\."):
        load_plugin("no_such_plugin")


@pytest.mark.parametrize(
    ("source", "error"),
    [("def broken(:", "SyntaxError"), ("1 / 0", "ZeroDivisionError"), ("import no_such_module", "ModuleNotFoundError")],
)
def test_a_file_that_does_not_load_is_named_and_leaves_no_module(tmp_path: Path, source: str, error: str) -> None:
    path = written(tmp_path, "a_broken_plugin.py", source)
    for _ in range(2):
        with pytest.raises(PluginError, match=rf"Loading the plugin file .*a_broken_plugin\.py failed: {error}"):
            load_plugin(path)
    assert "a_broken_plugin" not in sys.modules


def test_a_module_that_lacks_an_import_names_that_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "a_needy_plugin.py", "import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"Loading the plugin 'a_needy_plugin' failed: .*no_such_module"):
        load_plugin("a_needy_plugin")


def test_a_file_without_hooks_is_no_plugin(tmp_path: Path) -> None:
    path = written(tmp_path, "a_plain_module.py", "def streamt1_register_rewards(register): ...")
    with pytest.raises(PluginError, match=r"a_plain_module\.py implements no hook.*@streamt1_plugins\.hookimpl"):
        Discovery().add_named([path])


@pytest.mark.parametrize("name", ["json.py", "streamt1_wan.py", "sys.py", "this.py"])
def test_a_name_that_another_module_has_is_refused(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, SOURCE)
    with pytest.raises(PluginError, match=rf"there is a module '{name[:-3]}' already .*Rename the file"):
        load_plugin(path)
    assert "this" not in sys.modules


def test_a_name_that_a_plugin_has_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "tinyalign.py", SOURCE)
    with pytest.raises(PluginError, match=r"there is a plugin 'tinyalign' already, of streamt1-plugins\. Rename one"):
        Discovery().add_named([path])


def test_a_name_that_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="'my-plugin' cannot be the name of a module"):
        load_plugin(written(tmp_path, "my-plugin.py", SOURCE))


def test_a_class_as_target_needs_no_import() -> None:
    assert load_target(Path, "'x' of acme") is Path


def test_a_recipe_cannot_name_code() -> None:
    for text in ("scoring=a_warm_plugin:Warmth", "rewards.long={'./a_warm_plugin.py': {}}"):
        with pytest.raises(streamt1.UnknownNameError):
            streamt1.load("tinyworld", overrides=[text])


@pytest.mark.slow
def test_a_run_and_the_processes_it_starts_have_the_plugin(file: Path, tmp_path: Path) -> None:
    rewards = {"warmth": {}, "warmth-too": {"where": sys.executable}}
    command = [sys.executable, "-m", "streamt1_plugins", "--plugin", file.name, "generate", "a red circle", "-q"]
    command += ["--num-frames", "9", "-o", f"rewards.long={json.dumps(rewards)}", "--out", "run", "--device", "cpu"]
    environment = {name: value for name, value in os.environ.items() if name != PLUGINS}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for node in json.loads((tmp_path / "run" / "tree.json").read_text())["nodes"]:
        readings = node["rewards"]["long"]
        assert readings["warmth"]["raw"] == pytest.approx(readings["warmth-too"]["raw"], abs=1e-6)
