"""docs/plugins.md lists every plugin of this distribution, with a line of its own."""

from __future__ import annotations

import re

import pytest

from streamt1_plugins.errors import PluginError
from tests.docs.plugin_list import PAGE, filled, line


@pytest.mark.slow
def test_the_page_lists_every_plugin() -> None:
    """Stale? Run: python tests/docs/plugin_list.py."""
    text = PAGE.read_text(encoding="utf-8")
    try:
        assert text == filled(text)
    except PluginError as error:
        pytest.skip(f"needs every extra: {error}")
    assert [row for row in re.findall(r"^\| `.*", text, flags=re.MULTILINE) if row.endswith("|  |")] == []


def test_a_line_is_the_first_sentence() -> None:
    def two() -> None:
        """Bends at 0.5 | 1,
        and stops. Then more.

        Not here.
        """

    assert line(two) == "Bends at 0.5 \\| 1, and stops."
