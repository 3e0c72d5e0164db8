"""Overrides: single keys of a recipe as ``key=value``, the value in YAML. No override undoes an earlier one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from streamt1_plugins.config import yaml12
from streamt1_plugins.config.merge import as_part, renames, without_replaced
from streamt1_plugins.config.plain import plain
from streamt1_plugins.config.renamed import upgraded
from streamt1_plugins.config.rewards import HORIZONS
from streamt1_plugins.config.schema import PARTS
from streamt1_plugins.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LONGEST = 100_000  # characters
SECOND = re.compile(r"[\s,;]+(?=[a-z]\w*(?:\.\w[\w-]*)*=)")
"""What stands between two overrides in one text."""


def apply(data: dict[str, Any], overrides: Sequence[str]) -> list[list[str]]:
    """Set each ``a.b.c=value`` in the data, in order; returns their places.

    Raises `RecipeError` for one that cannot be read, and where one undoes another: each has to have its effect.
    """
    read = [(override, *each) for override in listed(overrides) for each in _by_reward(override, *_read(override))]
    together: dict[str, Any] = {}
    for override, steps, value in read:
        if steps[0] == "rewards":
            _set(together, steps, value, override)
    data.update(without_replaced(data, together))
    for override, steps, value in read:
        _set(data, steps, value, override)
    for place, (override, steps, value) in enumerate(read):
        if any(_is_within(other, steps) for _, other, _ in read[place + 1 :]):
            continue  # a key of the section, given after it
        if not _holds(_at(data, steps), value, is_part=steps[-1] in PARTS and len(steps) == 1):
            _refuse(override, steps, read)
    return [steps for _, steps, _ in read]


def listed(overrides: Any) -> list[Any]:
    """The overrides as a list; a single text is one of them, None is none.

    Raises `RecipeError` for what is no list of texts, and for a text that holds several.
    """
    if isinstance(overrides, str):
        if SECOND.search(overrides):
            parts = [each.strip(" ,;") for each in SECOND.split(overrides)]
            raise RecipeError(f"The text {overrides!r} holds several overrides. Give a list: {parts}.")
        return [overrides]
    if overrides is None:
        return []
    if isinstance(overrides, Mapping):
        example = [f"{key}={value}" for key, value in overrides.items()]
        raise RecipeError(f"Overrides are texts, not a mapping. Give a list: {example}.")
    if not isinstance(overrides, Iterable):
        raise RecipeError(f"Overrides are a list of texts such as 'search.top_k=3', got {overrides!r}.")
    return list(overrides)


def _is_within(steps: Sequence[str], section: Sequence[str]) -> bool:
    return len(steps) > len(section) and steps[: len(section)] == section


def _by_reward(override: str, steps: list[str], value: Any) -> Iterator[tuple[list[str], Any]]:
    """The override, or one for each reward and key of the section that it sets: rewards are added to those there are.

    Raises `RecipeError` for a section without any.
    """
    is_section = steps[0] == "rewards" and (len(steps) == 1 or (len(steps) == 2 and steps[1] in HORIZONS))
    if not (is_section and isinstance(value, dict)):
        yield steps, value
        return
    if not value:
        raise RecipeError(
            f"Override {override!r} names no reward. To leave out rewards of the recipe or of the adapter, name those "
            "that you want instead, with rewards.replace=true."
        )
    for name, each in value.items():
        yield from _by_reward(override, [*steps, name], each)


def _read(override: Any) -> tuple[list[str], Any]:
    """The steps of an override's key, renamed where the key has been, and its value."""
    if not isinstance(override, str):
        raise RecipeError(f"Override {override!r} is no text. Write key=value, e.g. 'search.top_k=3'.")
    if len(override) > LONGEST:
        raise RecipeError(f"An override has {len(override)} characters; at most {LONGEST}.")
    key, equals, text = override.partition("=")
    steps = key.strip().split(".")
    if not equals or not all(steps):
        raise RecipeError(f"Override {override!r} is not of the form key=value, e.g. search.top_k=3.")
    if steps == ["extends"]:
        raise RecipeError(f"Override {override!r}: `extends` belongs to a recipe file. Name the base as the recipe.")
    nested = yaml12.read(text, f"The value in override {override[:80]!r}")
    for name in reversed(steps):
        nested = {name: nested}
    nested, renamed = upgraded(plain(nested)), []
    for _ in steps:
        ((name, nested),) = nested.items()
        renamed.append(name)
    return renamed, nested


def _set(data: dict[str, Any], steps: list[str], value: Any, override: str) -> None:
    *parents, last = steps
    section = data
    for name in parents:
        below = as_part(section.get(name)) if section is data and name in PARTS else section.get(name)
        if not isinstance(below, dict | None):
            key = override.partition("=")[0].strip()
            raise RecipeError(f"Override {key!r}: {name!r} is a value, not a section.")
        section[name] = dict(below or {})
        section = section[name]
    if last == "name" and len(parents) == 1 and parents[0] in PARTS and renames({"name": value}, section):
        section.clear()  # options of one part do not fit another
    section[last] = plain(value)  # a copy: a later override may change it


def _at(data: Any, steps: Sequence[str]) -> Any:
    for name in steps:
        data = data.get(name, _MISSING) if isinstance(data, dict) else _MISSING
    return data


_MISSING = object()


def _holds(found: Any, wanted: Any, *, is_part: bool) -> bool:
    """Whether what an override set is still there; sections may have more keys by now."""
    if is_part:
        found, wanted = as_part(found), as_part(wanted)
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(name in found and _holds(found[name], each, is_part=False) for name, each in wanted.items())
    return type(found) is type(wanted) and bool(found == wanted)


def _refuse(override: str, steps: list[str], read: Sequence[tuple[str, list[str], Any]]) -> None:
    """Raise `RecipeError` with the override that another one undoes, and that one."""
    later = [text for text, others, _ in read if others[0] == steps[0] and text != override] or [override]
    raise RecipeError(
        f"Override {override!r} is undone by {later[-1]!r}: give each key once, and a section before its keys."
    )


def refuse_double(overrides: Sequence[str], **options: str | int | None) -> None:
    """Raise `RecipeError` for an option of the command line that an override gives another value.

    options: by the name of a key or a part of the recipe, None where it was not given.
    """
    data: dict[str, Any] = {}
    if all(value is None for value in options.values()):
        return
    apply(data, overrides)
    for name, value in options.items():
        found = as_part(data.get(name)) if name in PARTS else data.get(name)
        found = found.get("name") if isinstance(found, dict) else found
        if value is not None and found not in (None, value):
            raise RecipeError(f"--{name} {value} and an override give {name} two values, also {found!r}: give one.")
