"""The example adapter as its users have it: installed by pip, found by its entry point, tested by its own tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "third_party" / "streamt1_example_adapter"


def call(*command: str, cwd: Path, **environment: str) -> str:
    result = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.slow
def test_the_example_passes_its_own_tests_once_installed(tmp_path: Path) -> None:
    if not (find_spec("hatchling") and find_spec("pip")):
        pytest.skip("needs pip and hatchling")
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("conftest.py", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index", "--no-deps"]
    call(*pip, "--no-build-isolation", "--target", str(site), str(source), cwd=tmp_path)
    shutil.rmtree(source / "streamt1_example_adapter")  # or the tests could import it from here
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    out = call(*pytest_run, cwd=source, PYTHONPATH=str(site))
    assert " failed" not in out
    found = call(sys.executable, "-m", "streamt1_plugins", "plugins", cwd=tmp_path, PYTHONPATH=str(site))
    assert "streamt1-example-adapter" in found
