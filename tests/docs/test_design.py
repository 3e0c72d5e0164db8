"""docs/design.md against the tree: the map has every file, the floors are the contract's, and named files exist."""

from __future__ import annotations

import re
from difflib import unified_diff

import pytest

from tests.docs import design_map
from tests.docs.design_map import CORE, PAGE, ROOT

TEXT = PAGE.read_text(encoding="utf-8")
PROSE = re.sub(r"<!-- (?:map|packages) -->.*?<!-- end -->", "", TEXT, flags=re.DOTALL)
NEW = {"policies/motion_memory.py", "tests/policies/test_motion_memory.py", "cli/thin.py", "tests/cli/test_thin.py"}
"""Files that the stories tell the reader to create."""


def test_the_page_is_made_of_the_tree_as_it_is() -> None:
    made = design_map.filled(TEXT)
    difference = "\n".join(
        unified_diff(TEXT.splitlines(), made.splitlines(), "docs/design.md", "the tree", lineterm="")
    )
    assert made == TEXT, f"run: python tests/docs/design_map.py\n{difference}"


def test_every_file_of_the_core_is_on_the_map_once() -> None:
    listed = re.findall(r"^\| `(streamt1_plugins/\S+\.py)` \| \S", TEXT, flags=re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(ROOT)) for path in CORE.rglob("*.py"))


def test_every_package_is_on_the_map_once() -> None:
    listed = re.findall(r"^\| `((?:adapters|rewards|studio)/\w+)/` \| \S", TEXT, flags=re.MULTILINE)
    folders = [path.parent for root in ("adapters", "rewards", "studio") for path in ROOT.glob(f"{root}/*/__init__.py")]
    assert sorted(listed) == sorted(str(folder.relative_to(ROOT)) for folder in folders)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w./]+(?:\.py|/))`", PROSE)) - NEW))
def test_a_file_or_folder_that_the_text_names_exists(name: str) -> None:
    places = (ROOT, CORE, ROOT / "rewards" / "streamt1_dino")  # the last one as any reward package
    assert any((place / name).exists() for place in places), name


def test_the_new_files_of_the_stories_are_named() -> None:
    assert all(f"`{name}`" in PROSE and not (CORE / name).exists() and not (ROOT / name).exists() for name in NEW)
