"""`streamt1 new-reward`: what it writes installs, passes its own tests and takes part in a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamt1_plugins.cli.main import app

ROOT = Path(__file__).parents[2]


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["new-reward", *arguments])
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("name", ["Warm", "1warm", "warm_light", "warm-", "import", "", "../warm", "warm light"])
def test_a_name_that_cannot_be_a_package_is_refused(name: str, tmp_path: Path) -> None:
    code, said = command(name, str(tmp_path / "new"))
    assert (code, "is no name for a reward" in said) == (2, True)
    assert not (tmp_path / "new").exists()


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    assert command("flicker", str(tmp_path / "new")) == (
        2,
        "Error: There is a reward 'flicker' already, from streamt1-plugins: choose another.",
    )
    assert "There is a plugin 'tinyworld' already" in command("tinyworld", str(tmp_path / "new"))[1]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    code, said = command("warm", str(tmp_path))
    assert (code, "is not empty" in said) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_default_folder_is_named_after_the_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = command("warm-light")
    assert code == 0, said
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    folder = "streamt1-warm-light"
    assert files == {
        f"{folder}/pyproject.toml",
        f"{folder}/README.md",
        f"{folder}/streamt1_warm_light/__init__.py",
        f"{folder}/streamt1_warm_light/reward.py",
        f"{folder}/tests/test_reward.py",
    }
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "$" in path.read_text(encoding="utf-8")]


# The whole way, as a third party goes it.


def call(*line: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("third") / "package"
    code, said = command("warm-light", str(folder))
    assert code == 0, said
    return folder


@pytest.fixture(scope="module")
def python(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the package's wheel, which sees what is installed here."""
    if not (find_spec("hatchling") and find_spec("pip")):
        pytest.skip("needs pip and hatchling")
    call(sys.executable, "-m", "hatchling", "build", "-t", "wheel", cwd=package)
    (wheel,) = (package / "dist").glob("*.whl")
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    fresh = folder / "bin" / "python"
    site = Path(call(fresh, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    call(*pip, "--target", site, wheel, cwd=folder)
    # as a .pth file does for every folder it names; `addsitedir` also reads theirs, for an editable install
    here = sysconfig.get_path("purelib")
    (site / "parent.pth").write_text(f"import site; site.addsitedir({here!r})\n", encoding="utf-8")
    return fresh


def test_the_wheel_is_seen_with_what_it_declares(python: Path, tmp_path: Path) -> None:
    said = call(python, "-m", "streamt1_plugins", "plugins", "--json", "--details", cwd=tmp_path)
    rewards = {reward["name"]: reward for reward in json.loads(said)["rewards"]}
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


def test_its_own_tests_pass(python: Path, package: Path) -> None:
    assert "passed" in call(python, "-m", "pytest", "-p", "no:cacheprovider", cwd=package)


def test_it_takes_part_in_a_run(python: Path, tmp_path: Path) -> None:
    line = ["generate", "a red circle moving right on a blue background", "--num-frames", "21", "--device", "cpu"]
    line += ["-o", "rewards={long: {warm-light: {options: {strength: 2}}}}", "--out", "run", "--quiet"]
    call(python, "-m", "streamt1_plugins", *line, cwd=tmp_path)
    nodes = json.loads((tmp_path / "run" / "tree.json").read_text(encoding="utf-8"))["nodes"]
    assert nodes
    assert all(0 < node["rewards"]["long"]["warm-light"]["raw"] <= 1 for node in nodes)


def test_the_packages_code_is_as_clean_as_ours(package: Path) -> None:
    if not find_spec("ruff"):
        pytest.skip("needs ruff")
    call(sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), package, cwd=package)
    settings = ["--config", str(ROOT / "pyproject.toml"), "--check"]
    call(sys.executable, "-m", "ruff", "format", *settings, package, cwd=package)
