"""The hook specifications: fifteen, documented, each with a test."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from streamt1_plugins.api import hookspecs
from streamt1_plugins.plugins.run_hooks import DECISIONS

HOOKS = sorted(name for name, value in vars(hookspecs).items() if hasattr(value, "streamt1_spec"))


def test_there_are_fifteen_hooks_and_each_has_a_test() -> None:
    texts = [file.read_text(encoding="utf-8") for file in (Path(__file__).parents[1] / "plugins").glob("test_*.py")]
    tested = {name for text in texts for name in re.findall(r"^def test_hook_(\w+)", text, re.MULTILINE)}
    assert len(HOOKS) == 15
    assert tested == {name.removeprefix("streamt1_") for name in HOOKS}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_are_documented_and_only_decisions_stop_at_the_first_answer(name: str) -> None:
    hook = getattr(hookspecs, name)
    assert (inspect.getdoc(hook) or "").endswith(".")
    assert hook.streamt1_spec["firstresult"] == (name in DECISIONS)
