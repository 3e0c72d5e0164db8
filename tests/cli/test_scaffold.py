"""`streamt1 new-reward`, `new-adapter`, `new-policy`: what they write installs, passes its own tests and is used."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamt1_plugins.cli.main import app
from streamt1_plugins.cli.scaffold import TEMPLATES, Scaffold
from streamt1_plugins.plugins.offers import POLICY_KINDS
from streamt1_plugins.testing import PolicyContract

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "reward": ("new-reward",),
    "adapter": ("new-adapter",),
    **{kind: ("new-policy", "--kind", kind) for kind in POLICY_KINDS},
}


def command(*arguments: str, kind: str = "reward") -> tuple[int, str]:
    result = CliRunner().invoke(app, [*COMMANDS[kind], *arguments])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("kind", ["reward", "adapter", "noise"])
@pytest.mark.parametrize("name", ["Warm", "1warm", "warm_light", "warm-", "", "../warm", "warm light", "a" * 61, "é"])
def test_a_name_that_cannot_be_a_package_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    code, said = command(name, str(tmp_path / "new"), kind=kind)
    assert (code, "can be called" in said, "joined by hyphens" in said) == (2, True, True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("reward", "flicker", "There is a reward 'flicker' already, from streamt1-plugins: choose another."),
        ("memory", "fixed", "There is a memory policy 'fixed' already"),
        ("adapter", "wan", "There is an adapter 'wan' already"),
        ("reward", "tinyworld", "There is a plugin 'tinyworld' already"),
        ("reward", "plugins", "There is a module 'streamt1_plugins' already"),
        ("noise", "seams", "There is a module 'streamt1_seams' already"),
        ("adapter", "helios-pyramid", "HeliosPyramidPipeline is driven by 'helios' already"),
        ("selection", "null", "a recipe would read it as a value"),
        ("reward", "true", "a recipe would read it as a value"),
    ],
)
def test_a_name_that_is_taken_or_means_something_else_is_refused(
    kind: str, name: str, message: str, tmp_path: Path
) -> None:
    code, said = command(name, str(tmp_path / "new"), kind=kind)
    assert (code, message in said) == (2, True), said
    assert not (tmp_path / "new").exists()


NAMES = ("class", "import", "none", "reward", "exception", "reward-output", "class-var", "torch", "test", "a", "put")


@pytest.mark.parametrize("name", NAMES)
def test_every_other_name_makes_code_that_python_reads(name: str, tmp_path: Path) -> None:
    """Also keywords, and names that the templates import or Python has."""
    for kind in COMMANDS:
        if (kind, name) == ("revision", "none"):  # which is taken
            continue
        folder = tmp_path / kind
        code, said = command(name, str(folder), kind=kind)
        assert code == 0, said
        for path in folder.rglob("*.py"):
            compile(path.read_text(encoding="utf-8"), str(path), "exec")
    classname = Scaffold("reward", name).words["classname"]
    text = (TEMPLATES / "reward" / "reward.py.txt").read_text(encoding="utf-8")
    assert classname.isidentifier()
    assert not re.search(rf"\b{classname}\b", text)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    code, said = command("warm", str(tmp_path))
    assert (code, "is not empty" in said) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


FILES = {
    "reward": ["reward.py", "tests/test_reward.py"],
    "adapter": ["adapter.py", "pipeline.py", "tests/test_adapter.py"],
    "selection": ["policy.py", "tests/test_policy.py"],
}


@pytest.mark.parametrize("kind", FILES)
def test_the_default_folder_is_named_after_the_plugin(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = command("warm-light", kind=kind)
    assert code == 0, said
    folder, module = "streamt1-warm-light", "streamt1_warm_light"
    own = [file if "/" in file else f"{module}/{file}" for file in FILES[kind]]
    expected = {f"{folder}/{file}" for file in ("pyproject.toml", "README.md", f"{module}/__init__.py", *own)}
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == expected
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "$" in path.read_text(encoding="utf-8")]
    assert f"Next: pip install -e '{folder}[test]', then pytest in {folder}." in said


# Policies of every kind.


@pytest.fixture(scope="module")
def contract() -> Any:
    PolicyContract.setup_class()
    yield PolicyContract
    PolicyContract.teardown_class()


@pytest.mark.slow
@pytest.mark.parametrize("kind", POLICY_KINDS)
def test_a_policy_of_every_kind_takes_part_in_a_search(
    kind: str, contract: type[PolicyContract], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Scaffold("policy", f"made-{kind}", kind).write(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "tests"))
    monkeypatch.delitem(sys.modules, "test_policy", raising=False)
    importlib.invalidate_caches()
    found = vars(importlib.import_module("test_policy"))
    (case,) = (each for name, each in found.items() if name.startswith("TestMade"))
    case.test_it_takes_part_in_a_search(case())
    monkeypatch.delitem(sys.modules, "test_policy")


# The whole way, as a third party goes it.


def call(*line: str | Path, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "adapters", ROOT / "rewards")))}
    result = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


INSTALLED = {"reward": "warm-light", "adapter": "turning", "selection": "apart"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, made = tmp_path_factory.mktemp("third"), {}
    for kind, name in {**{kind: f"some-{kind}" for kind in COMMANDS}, **INSTALLED}.items():
        made[kind] = folder / kind
        code, said = command(name, str(made[kind]), kind=kind)
        assert code == 0, said
    return made


@pytest.fixture(scope="module")
def python(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the packages' wheels, which sees what is installed here."""
    if not (find_spec("hatchling") and find_spec("pip")):
        pytest.skip("needs pip and hatchling")
    for kind in INSTALLED:
        call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", cwd=packages[kind])
    wheels = [wheel for kind in INSTALLED for wheel in (packages[kind] / "dist").glob("*.whl")]
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    fresh = folder / "bin" / "python"
    site = Path(call(fresh, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    call(*pip, "--target", site, *wheels, cwd=folder)
    # as a .pth file does for every folder it names; `addsitedir` also reads theirs, for an editable install
    here = sysconfig.get_path("purelib")
    (site / "parent.pth").write_text(f"import site; site.addsitedir({here!r})\n", encoding="utf-8")
    return fresh


@pytest.mark.slow
def test_the_wheels_are_seen_with_what_they_declare(python: Path, tmp_path: Path) -> None:
    found = json.loads(call(python, "-m", "streamt1_plugins", "plugins", "--json", "--details", cwd=tmp_path))
    rewards = {reward["name"]: reward for reward in found["rewards"]}
    assert rewards["warm-light"] | {"target": ""} == {
        "name": "warm-light",
        "origin": "streamt1-warm-light",
        "extra": None,
        "target": "",
        "horizons": ["short", "long"],
        "needs_prompt": False,
        "license": "Apache-2.0",
        "weights": "none",
        "weights_mb": 0,
        "batch_limit": None,
        "batch_exact": False,
        "lead_frames": 0,
        "deterministic": True,
        "problem": None,
    }
    assert "streamt1-turning" in {adapter["origin"] for adapter in found["adapters"]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", INSTALLED)
def test_its_own_tests_pass(kind: str, python: Path, packages: dict[str, Path]) -> None:
    said = call(python, "-m", "pytest", "-p", "no:cacheprovider", cwd=packages[kind])
    assert "passed" in said


@pytest.mark.slow
def test_the_adapter_runs_as_its_readme_has_it(python: Path, packages: dict[str, Path], tmp_path: Path) -> None:
    readme = (packages["adapter"] / "README.md").read_text(encoding="utf-8")
    (line,) = (line for line in readme.splitlines() if line.startswith("streamt1 generate"))
    call("bash", "-c", f"{python} -m streamt1_plugins {line.partition(' ')[2]} --quiet --out run", cwd=tmp_path)
    assert (tmp_path / "run" / "video.mp4").exists()


@pytest.mark.slow
def test_the_reward_takes_part_in_a_run(python: Path, tmp_path: Path) -> None:
    line = ["generate", "a red circle moving right on a blue background", "--num-frames", "21", "--device", "cpu"]
    line += ["-o", "rewards={long: {warm-light: {options: {strength: 2}}}}", "--out", "run", "--quiet"]
    call(python, "-m", "streamt1_plugins", *line, cwd=tmp_path)
    nodes = json.loads((tmp_path / "run" / "tree.json").read_text(encoding="utf-8"))["nodes"]
    assert nodes
    assert all(0 < node["rewards"]["long"]["warm-light"]["raw"] <= 1 for node in nodes)
    assert all(node["rewards"]["long"].keys() == {"tinyalign", "warm-light"} for node in nodes)


def test_the_packages_code_is_as_clean_as_ours(packages: dict[str, Path]) -> None:
    if not find_spec("ruff"):
        pytest.skip("needs ruff")
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for folder in packages.values():
        call(sys.executable, "-m", "ruff", "check", *settings, folder, cwd=folder)
        call(sys.executable, "-m", "ruff", "format", *settings, "--check", folder, cwd=folder)
