"""The conditions of a comparison, kept beside its rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins.compare import conditions
from streamt1_plugins.config import load as recipe
from streamt1_plugins.errors import InputError
from tests.compare.examples import comparison


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"judge": "picky"}, "judge = 'short-only', and this call has 'picky'"),
        ({"call": {"chunks": 2}}, "call.chunks = None, and this call has 2"),
        ({"model": "other"}, "model = 'toy', and this call has 'other'"),
        (
            {"recipes": {"plain": recipe.load("plain", ["search.candidates=2"])}},
            "recipes.plain.search.candidates = 1, and this call has 2",
        ),
    ],
    ids=lambda each: str(each)[:20],
)
def test_a_folder_does_not_mix_rows_that_do_not_compare(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    given = {"recipes": {"plain": recipe.load("plain")}}
    conditions.record(comparison(**given), tmp_path)
    conditions.record(comparison(recipes={"beam": recipe.load("beam")}), tmp_path)
    conditions.record(comparison(**given), tmp_path)
    with pytest.raises(InputError, match=re.escape(message)):
        conditions.record(comparison(**(given | changed)), tmp_path)
    assert set(json.loads((tmp_path / conditions.CONDITIONS).read_text())["recipes"]) == {"plain", "beam"}


def test_a_description_is_no_condition(tmp_path: Path) -> None:
    conditions.record(comparison(), tmp_path)
    described = {name: each.model_copy(update={"description": "new"}) for name, each in comparison().recipes.items()}
    conditions.record(comparison(recipes=described), tmp_path)
