"""One distribution, plugin packages in source roots, and a third party's plugin installed for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).parents[1] / "third_party" / "streamt1_example"
SETTINGS: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ROOTS = ("adapters", "rewards", "studio")
FOLDERS = {path.parent.name: path.parent for root in ROOTS for path in ROOT.glob(f"{root}/*/__init__.py")}
CORE = {"streamt1_plugins"}
LIBRARIES = {"streamt1_backbones", "streamt1_seams"}  # what several plugin packages share; registers nothing itself


def test_there_are_plugins_in_all_source_roots() -> None:
    assert {path.parent.name for path in FOLDERS.values()} == set(ROOTS)
    assert all(name.startswith("streamt1_") for name in FOLDERS)


@pytest.mark.parametrize("root", ROOTS)
def test_a_source_root_is_no_package(root: str) -> None:
    assert not (ROOT / root / "__init__.py").exists()


def test_each_folder_is_one_line_in_packages() -> None:
    lines = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(lines) == sorted(["streamt1_plugins", *(str(path.relative_to(ROOT)) for path in FOLDERS.values())])


def test_each_folder_is_one_entry_point() -> None:
    points = SETTINGS["project"]["entry-points"]["streamt1"]
    outside = [target for target in points.values() if target.partition(".")[0] not in CORE]
    plugins = FOLDERS.keys() - LIBRARIES
    assert sorted(outside) == sorted(plugins)
    assert {name: target for name, target in points.items() if target in plugins} == {
        folder.removeprefix("streamt1_"): folder for folder in plugins
    }


@pytest.mark.parametrize(("tool", "key"), [("mypy", "packages"), ("importlinter", "root_packages")])
def test_each_folder_is_checked(tool: str, key: str) -> None:
    assert sorted(SETTINGS["tool"][tool][key]) == sorted([*CORE, *FOLDERS])


def test_the_core_may_import_no_folder() -> None:
    contracts = {each["name"]: each for each in SETTINGS["tool"]["importlinter"]["contracts"]}
    found = contracts["The core never imports a plugin package"]
    assert sorted(found["forbidden_modules"]) == sorted(FOLDERS)


def test_no_folder_may_have_a_circle_of_imports() -> None:
    assert sorted(contract("acyclic_siblings")["ancestors"]) == sorted([*CORE, *FOLDERS])


def test_every_room_and_root_module_is_on_a_floor() -> None:
    floors = {name for layer in contract("layers")["layers"] for name in layer.split(" | ")}
    root = ROOT / "streamt1_plugins"
    rooms = {path.parent.name for path in root.glob("*/*.py")}
    assert floors == rooms | {path.stem for path in root.glob("*.py")} - {"__init__", "__main__"}


def contract(kind: str) -> dict[str, Any]:
    """The first import contract of this type in pyproject.toml."""
    found: list[dict[str, Any]] = [
        each for each in SETTINGS["tool"]["importlinter"]["contracts"] if each["type"] == kind
    ]
    return found[0]


def test_the_root_of_the_core_stays_small() -> None:
    """A new module belongs in a room; the root is for what a user meets first."""
    assert len(list((ROOT / "streamt1_plugins").glob("*.py"))) <= 8


def test_the_installed_entry_points_are_those_of_pyproject() -> None:
    points = {p.name: p.value for p in entry_points(group="streamt1") if p.dist and p.dist.name == "streamt1-plugins"}
    assert points == SETTINGS["project"]["entry-points"]["streamt1"], "run `pip install -e .` again"


def test_the_wheel_holds_packages_recipes_and_models(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"{folder}/__init__.py" for folder in [*CORE, *FOLDERS]}
    expected |= {
        f"streamt1_plugins/recipes/{path.relative_to(ROOT / 'recipes')}" for path in ROOT.glob("recipes/**/*.yaml")
    }
    expected |= {f"streamt1_studio/page/{path.name}" for path in ROOT.glob("studio/streamt1_studio/page/*")}
    expected |= {"streamt1_plugins/py.typed", "streamt1_tinyworld/model/model_index.json"}
    assert expected <= names
    assert not [
        name for name in names if name.startswith(("tests", "docs", "adapters/", "rewards/", "studio/", "recipes/"))
    ]


# A third party.


def call(*command: str, cwd: Path, **environment: str) -> str:
    result = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example distribution, put there by pip."""
    if not (find_spec("hatchling") and find_spec("pip")):
        pytest.skip("needs pip and hatchling")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for path in EXAMPLE.rglob("*.*"):
        if path.suffix in {".py", ".toml"}:
            copy = source / path.relative_to(EXAMPLE)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    call(*pip, "--no-deps", "--no-build-isolation", "--target", str(target), str(source), cwd=source)
    return target


USE = """
import json
import streamt1_plugins as streamt1
from streamt1_plugins.plugins.discovery import discovery
from tests import toy

found = discovery()
found.add(toy, name="toy", origin="tests")
plain = streamt1.wrap(toy.ToyPipeline())
plain("a prompt")
rewards = {"short": {"redness": {"options": {"gain": 2}}}}
pipe = streamt1.wrap(toy.ToyPipeline(), {"extends": "stream-t1", "selection": "family", "rewards": rewards})
pipe("a prompt")
print(json.dumps({
    "plugin": found.plugins.get("example"),
    "reward": found.rewards["redness"].origin,
    "policy": found.policies["selection"]["family"].origin,
    "parents": [len({n.parent for n in pipe.tree.chunk(i) if n.fate == "kept"}) for i in range(1, 4)],
    "raw": [n.readings["short"]["redness"].raw for n in pipe.tree.chunk(0)],
    "unasked": sorted({name for n in plain.tree for r in n.readings.values() for name in r}),
}))
"""


def test_a_third_partys_plugin_is_found_and_used_when_named(installed: Path) -> None:
    out = json.loads(call(sys.executable, "-c", USE, cwd=ROOT, PYTHONPATH=f"{installed}{os.pathsep}{ROOT}"))
    assert out["plugin"] == out["reward"] == out["policy"] == "streamt1-example"
    assert out["parents"] == [2, 2, 2]
    assert len(out["raw"]) == 4
    assert out["unasked"] == ["bright"]


def test_the_examples_reward_stays_as_small_as_promised() -> None:
    lines = (EXAMPLE / "streamt1_example" / "reward.py").read_text(encoding="utf-8").splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 15


def test_the_example_is_not_installed_here() -> None:
    assert find_spec("streamt1_example") is None
