"""What importing costs: neither the core nor a plugin's hook module may load torch."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "transformers", "numpy", "typer", "pydantic")
IMPORT_LIMIT = 0.3
HELP_LIMIT = 0.7
HELP = """
import sys, time
from streamt1_plugins.cli.main import main
sys.argv = ["streamt1", "--help"]
try:
    main()
except SystemExit:
    print()
    print(time.process_time())
"""
FIRST_PARTY = sorted(p.value for p in entry_points(group="streamt1") if p.dist and p.dist.name == "streamt1-plugins")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def loaded_by(statement: str, modules: tuple[str, ...]) -> list[str]:
    """Which of `modules` a fresh interpreter has after the statement."""
    return python(f"import sys; {statement}; print(*(set({modules!r}) & set(sys.modules)))").split()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import streamt1_plugins", HEAVY) == []


def test_importing_the_package_is_quick() -> None:
    code = "import time; start = time.process_time(); import streamt1_plugins; print(time.process_time() - start)"
    assert processor_seconds(code) < IMPORT_LIMIT


def test_the_help_is_quick() -> None:
    assert processor_seconds(HELP) < HELP_LIMIT


def processor_seconds(code: str) -> float:
    """The number on the last line that the code prints, best of five. Other work on the machine does not count."""
    return min(float(python(code).splitlines()[-1]) for _ in range(5))


@pytest.mark.parametrize("module", FIRST_PARTY)
def test_a_hook_module_loads_no_torch(module: str) -> None:
    assert loaded_by(f"import {module}", HEAVY[:3]) == []


def test_discovery_loads_no_torch() -> None:
    assert loaded_by("from streamt1_plugins.plugins.discovery import Discovery; Discovery()", HEAVY[:3]) == []


def test_recipes_are_read_and_checked_without_torch() -> None:
    assert loaded_by("from streamt1_plugins.config import load; load.load('stream-t1')", HEAVY[:3]) == []


COMMANDS = (
    ["recipes", "validate", *sorted(each.stem for each in (ROOT / "recipes").glob("*.yaml"))],
    ["recipes", "diff", "stream-t1-paper", "beam"],
    ["plugins", "--details"],
)
READING = f"""
import sys
from typer.testing import CliRunner
from streamt1_plugins.cli.main import app
for command in {COMMANDS!r}:
    assert CliRunner().invoke(app, command).exit_code == 0, command
print(*(set({HEAVY[:3]!r}) & set(sys.modules)))
"""
ENTRIES = f"""
import sys
from streamt1_plugins.plugins.discovery import discovery
for table in discovery().tables:
    for entry in table.values():
        if entry.origin == "streamt1-plugins":
            entry.load()
print(*(set({HEAVY[:3]!r}) & set(sys.modules)))
"""


def test_options_and_declarations_are_read_without_torch() -> None:
    """Every shipped recipe is checked, compared and costed, every reward is listed."""
    assert python(READING).split() == []


def test_every_shipped_part_can_be_looked_at_without_torch() -> None:
    assert python(ENTRIES).split() == []


def test_the_import_contracts_hold() -> None:
    pytest.importorskip("importlinter")
    command = [Path(sysconfig.get_path("scripts")) / "lint-imports", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
