"""docs/api.md is what the docstrings are, and has every public name."""

from __future__ import annotations

import re

import streamt1_plugins as streamt1
from tests.docs.api_page import PAGE, SECTIONS, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "stale, rewrite it with: python tests/docs/api_page.py"


def test_every_public_name_has_one_entry() -> None:
    assert sorted(re.findall(r"^### `(\w+)`$", page(), re.MULTILINE)) == sorted(streamt1.__all__)
    assert {name for names in SECTIONS.values() for name in names} <= set(streamt1.__all__)


def test_arguments_of_a_docstring_are_a_list() -> None:
    text = page()
    assert "\n* `overrides`: single keys" in text
    assert "\n* `adapter`: needed where" in text
    assert "``" not in text.replace("```", "")
