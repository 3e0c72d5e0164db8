"""Helpers for tests that need plugins of their own: distributions on disk, and name tables no other test sees."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from streamt1_plugins.plugins import build, resolve
from streamt1_plugins.plugins.discovery import Discovery
from tests import toy

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def fresh_discovery(monkeypatch: pytest.MonkeyPatch, **plugins: object) -> Discovery:
    """Name tables with the toy and `plugins` besides what is installed, in use until the end of the test."""
    found = Discovery()
    found.add(toy, name="toy", origin="tests")
    for name, plugin in plugins.items():
        found.add(plugin, name=name, origin=f"the {name} distribution")
    for module in (build, resolve):
        monkeypatch.setattr(module, "discovery", lambda: found)
    return found


def plugin(**hooks: Any) -> SimpleNamespace:
    """A plugin object with these hook implementations, hashable like a module."""
    made: Any = ModuleType("a_plugin")
    for name, hook in hooks.items():
        setattr(made, name, hook)
    return made


def distribution(folder: Path, name: str, module: str, source: str, point: str | None = None) -> None:
    """Lay out an installed distribution in `folder`: a module and the metadata that offers it as a plugin."""
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[streamt1]\n{point or name} = {module}\n", encoding="utf-8")
