"""Keys of recipes that have been renamed: old ones load for one minor version, with a note that gives the new key."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("streamt1")


@dataclass(frozen=True)
class Renamed:
    """A key ``section.old`` that is ``section.new`` now; `values`: those that have another name too."""

    section: str
    old: str
    new: str
    values: Mapping[Any, Any] = field(default_factory=dict)

    @property
    def before(self) -> str:
        """The old key with its section."""
        return f"{self.section}.{self.old}"

    @property
    def now(self) -> str:
        """The new key with its section."""
        return f"{self.section}.{self.new}"


RENAMED = (
    Renamed("search", "park", "offload", {"device": "none"}),
    Renamed("parallel", "previews", "thumbnails"),
)
"""Renamed in 0.2; version 0.3 drops the old keys."""


def upgraded(data: Mapping[str, Any], *, silent: bool = False) -> dict[str, Any]:
    """The data of a recipe, or a part of it, under the keys of this version; each old key is noted once per process.

    Raises `RecipeError` where the old and the new key are both given.
    """
    found = dict(data)
    for each in RENAMED:
        section = found.get(each.section)
        if isinstance(section, dict) and each.old in section:
            found[each.section] = _renamed(section, each)
            if not silent:
                _note(each.before, each.now)
    return found


def former(key: str) -> str:
    """`" (search.park in recipes of 0.1)"` for a key that had another name, else an empty string."""
    return next((f" ({each.before} in recipes of 0.1)" for each in RENAMED if each.now == key), "")


def _renamed(section: dict[str, Any], key: Renamed) -> dict[str, Any]:
    if key.new in section:
        raise RecipeError(f"{key.before} is the old name of {key.now}, and both are given. Delete {key.before}.")
    rest = {name: value for name, value in section.items() if name != key.old}
    value = section[key.old]
    return {**rest, key.new: key.values.get(value, value) if isinstance(value, str) else value}


@cache
def _note(before: str, now: str) -> None:
    log.warning("The recipe key %s is now %s. Version 0.3 no longer accepts the old key.", before, now)
