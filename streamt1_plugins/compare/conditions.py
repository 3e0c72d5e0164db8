"""What the rows of a result folder come from, written beside them: a folder never mixes rows that do not compare."""

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


def keep(comparison: Comparison, out: Path) -> None:
    """Write the conditions down; recipes that only earlier calls had stay.

    Raises `InputError` where the folder's rows come from another judge, model, call or recipe of the same name.
    """
    path = out / CONDITIONS
    new = conditions(comparison)
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        refuse_others(kept, new, out)
        new["recipes"] = kept["recipes"] | new["recipes"]
    write_atomically(path, json.dumps(new, indent=1) + "\n")


def conditions(comparison: Comparison) -> dict[str, Any]:
    """All that a row depends on besides its prompt and seed, as JSON holds it; descriptions change nothing."""
    recipes = {name: each.model_dump(mode="json", exclude={"description"}) for name, each in comparison.recipes.items()}
    found = {"judge": comparison.judge, "model": comparison.model, "call": comparison.call or {}, "recipes": recipes}
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def refuse_others(kept: Mapping[str, Any], new: Mapping[str, Any], out: Path) -> None:
    """Raise `InputError` with the first difference in what both hold; a recipe only one of them has is none."""
    both = kept["recipes"].keys() & new["recipes"].keys()
    before, now = (flat({**each, "recipes": {name: each["recipes"][name] for name in both}}) for each in (kept, new))
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise InputError(
                f"{out} holds videos made with {key} = {before.get(key)!r}, and this call has {now.get(key)!r}. "
                "Give the same, or another --out."
            )
