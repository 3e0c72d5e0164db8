"""Merges the data of recipes: section by section, key by key, parts whole where their name changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamt1_plugins.config.rewards import HORIZONS
from streamt1_plugins.config.schema import PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def merged(base: Mapping[str, Any], over: Mapping[str, Any], parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """The data of `base` with that of `over` on top, merged key by key.

    A part with another `name` replaces the base's part whole, because options of one part do not fit another. Rewards
    are added to the base's, or replace them where the section has `replace: true`.
    """
    result = without_replaced(base, over)
    for key, value in over.items():
        old = as_part(result.get(key)) if key in parts else result.get(key)
        result[key] = value
        if isinstance(old, dict) and isinstance(value, dict) and not (key in parts and renames(value, old)):
            result[key] = merged(old, value, parts=())
    return result


def as_part(section: Any) -> Any:
    """The section of a part; a bare string is its name."""
    return {"name": section} if isinstance(section, str) else section


def renames(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether the new section of a part names another part than the old one."""
    return new.get("name") not in (None, old.get("name"))


def without_replaced(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The data of a recipe without its rewards where `over` names others that replace them."""
    old, new = base.get("rewards"), over.get("rewards")
    if not (isinstance(old, dict) and isinstance(new, dict) and new.get("replace") is True):
        return dict(base)
    if not any(new.get(horizon) for horizon in HORIZONS):
        return dict(base)
    return {**base, "rewards": {key: value for key, value in old.items() if key not in HORIZONS}}


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested data with dotted keys, as overrides write them."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
