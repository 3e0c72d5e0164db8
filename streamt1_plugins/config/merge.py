"""Merges the data of recipes: section by section, key by key, parts whole where their name changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamt1_plugins.config.schema import PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def merged(base: Mapping[str, Any], over: Mapping[str, Any], parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """The data of `base` with that of `over` on top, merged key by key.

    A part with another `name` replaces the base's part whole, because options of one part do not fit another.
    """
    result = dict(base)
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


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested data with dotted keys, as overrides write them."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
