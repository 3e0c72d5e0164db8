"""The public interface: what `streamt1_plugins` exports, from where, and what became of the old names."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamt1_plugins
from streamt1_plugins import errors
from streamt1_plugins.api import adapter, candidate, register, reward, run, types

ROOT = Path(__file__).parents[1]
STUB = ROOT / "streamt1_plugins" / "__init__.pyi"
PUBLIC = {"streamt1_plugins", "streamt1_plugins.testing", "streamt1_plugins.errors"}
LIBRARIES = {"streamt1_seams", "streamt1_backbones"}


def test_every_public_name_can_be_imported() -> None:
    assert len(streamt1_plugins.__all__) > 50
    for name in streamt1_plugins.__all__:
        assert getattr(streamt1_plugins, name) is not None


def test_type_checkers_see_the_names_that_can_be_imported() -> None:
    imports = [
        node for node in ast.walk(ast.parse(STUB.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
    ]
    seen = [(alias.name, alias.asname) for node in imports for alias in node.names]
    assert sorted(seen) == [(name, name) for name in sorted(streamt1_plugins.__all__)], "X as X exports X"


def defined_in(module: object) -> Iterator[str]:
    for name, value in vars(module).items():
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_"):  # type: ignore[attr-defined]
            yield name


NOT_FOR_AUTHORS = {"Preview"}
"""Of api: what only the search handles."""


@pytest.mark.parametrize("module", [adapter, candidate, register, reward, run, types, errors], ids=lambda m: m.__name__)
def test_every_class_an_author_meets_is_exported(module: object) -> None:
    assert set(defined_in(module)) - NOT_FOR_AUTHORS <= set(streamt1_plugins.__all__)


def test_the_type_aliases_are_exported() -> None:
    aliases = {"Fate", "FrameKey", "Horizon", "MemoryRoute", "PolicyKind", "Rewards", "Target", "Vocabulary"}
    assert aliases <= set(streamt1_plugins.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No streamt1_plugins attribute warp"):
        _ = streamt1_plugins.warp
    assert {"wrap", "__version__"} <= set(dir(streamt1_plugins))


@pytest.mark.parametrize("name", ["errors.InputError", "replay.regenerate", "testing.RewardContract"])
def test_public_modules_are_attributes_at_once(name: str) -> None:
    code = f"import streamt1_plugins; print(streamt1_plugins.{name}.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == name.partition(".")[2]


def test_keep_is_record_to_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"streamt1_plugins\.keep is now streamt1_plugins\.record_to") as caught:
        assert streamt1_plugins.keep is streamt1_plugins.record_to
    assert caught[0].filename == __file__
    assert "keep" not in streamt1_plugins.__all__


# What examples, docs and templates import.


def texts() -> Iterator[tuple[Path, str]]:
    for path in sorted((ROOT / "examples").glob("*.py")):
        yield path, path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "streamt1_plugins" / "cli" / "templates").rglob("*.txt")):
        yield path, path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        yield path, "\n".join(re.findall(r"^```\w*\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S))


IMPORT = re.compile(r"^\s*(?:from|import)\s+(streamt1_(?:plugins|seams|backbones)[\w.]*)", re.MULTILINE)


@pytest.mark.parametrize(("path", "text"), texts(), ids=lambda each: each.name if isinstance(each, Path) else "")
def test_examples_docs_and_templates_import_public_modules_only(path: Path, text: str) -> None:
    private = {name for name in IMPORT.findall(text) if name not in PUBLIC and name.split(".")[0] not in LIBRARIES}
    assert private == set()


def test_names_that_they_import_are_exported() -> None:
    found = re.compile(r"^\s*from streamt1_plugins import (.+)$", re.MULTILINE)
    names = {name.strip(" ()") for _, text in texts() for line in found.findall(text) for name in line.split(",")}
    assert {name.partition(" as ")[0] for name in names if name} <= set(streamt1_plugins.__all__)


# The version.


def test_the_version_is_written_once() -> None:
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert not re.search(r"^version = ", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_citation_has_the_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", text, re.MULTILINE) == [streamt1_plugins.__version__]
