"""The conditions of a comparison, written beside its rows: a folder never mixes rows that do not compare."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from streamt1_plugins.config.load import flat
from streamt1_plugins.errors import InputError
from streamt1_plugins.runs.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from streamt1_plugins.compare.comparison import Comparison

CONDITIONS = "comparison.json"


def record(comparison: Comparison, out: Path) -> None:
    """Write the conditions to ``out/comparison.json``, beside the recipes of earlier calls.

    Raises `InputError` where the rows of `out` come from another judge, model, call or recipe of the same name.
    """
    path = out / CONDITIONS
    new = conditions(comparison)
    if path.exists():
        recorded = json.loads(path.read_text(encoding="utf-8"))
        check_same(recorded, new, out)
        new["recipes"] = recorded["recipes"] | new["recipes"]
    write_atomically(path, json.dumps(new, indent=1) + "\n")


def conditions(comparison: Comparison) -> dict[str, Any]:
    """Everything a row depends on except its prompt and seed, as JSON data; a recipe's description is left out."""
    recipes = {name: each.model_dump(mode="json", exclude={"description"}) for name, each in comparison.recipes.items()}
    found = {"judge": comparison.judge, "model": comparison.model, "call": comparison.call or {}, "recipes": recipes}
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def check_same(recorded: Mapping[str, Any], new: Mapping[str, Any], out: Path) -> None:
    """Raise `InputError` with the first difference; a recipe that only one of the two has is no difference."""
    both = recorded["recipes"].keys() & new["recipes"].keys()
    before, now = (
        flat({**each, "recipes": {name: each["recipes"][name] for name in both}}) for each in (recorded, new)
    )
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise InputError(
                f"{out} holds videos made with {key} = {before.get(key)!r}, and this call has {now.get(key)!r}. "
                "Use the same value, or another folder as --out."
            )
