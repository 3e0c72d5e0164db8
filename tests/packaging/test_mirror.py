"""The tests have the rooms of the package: ``tests/room/test_module.py`` tests ``streamt1_plugins/room/module.py``."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT / "streamt1_plugins")
    for path in (ROOT / "streamt1_plugins").rglob("*.py")
    if not path.stem.startswith("__")
)


def test_every_module_has_its_test_file() -> None:
    missing = [path for path in MODULES if not (ROOT / "tests" / path.parent / f"test_{path.name}").exists()]
    assert list(map(str, missing)) == [], "write tests/ROOM/test_MODULE.py for these"
