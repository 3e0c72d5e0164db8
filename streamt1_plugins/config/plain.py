"""Plain data: what a recipe holds, and YAML and JSON give back as it was. Anything else is an error with its key."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from streamt1_plugins.errors import RecipeError

MAX_DEPTH = 20
"""Sections inside each other; a recipe needs seven."""

MAX_VALUES = 20_000
"""Keys and values of a whole recipe."""

LARGEST = 10**40
NOT_TEXT = re.compile("[\0\ud800-\udfff]")

Steps = tuple[str, ...]


def plain(data: Any, what: str = "") -> Any:
    """A copy of the data with dicts, lists, texts, numbers, booleans and None alone.

    Tuples become lists, paths become texts, and numbers of numpy become Python's. Raises `RecipeError` with the key of
    a value that a recipe cannot hold: an object, a number that is not finite, text that is not Unicode, a key that is
    no text, data that contain themselves. `what` stands before the key in errors.
    """
    return _Copy(f"{what}: " if what else "").of(data, ())


@dataclass
class _Copy:
    what: str
    values: int = 0
    inside: set[int] = field(default_factory=set)

    def of(self, value: Any, steps: Steps) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.error((), f"has more than {MAX_VALUES} keys and values")
        return self.container(value, steps) if isinstance(value, Mapping | list | tuple) else self.scalar(value, steps)

    def container(self, value: Any, steps: Steps) -> Any:
        if id(value) in self.inside:
            raise self.error(steps, "contains itself")
        if len(steps) >= MAX_DEPTH:
            raise self.error(steps, f"lies deeper than {MAX_DEPTH} sections")
        self.inside.add(id(value))
        try:
            if isinstance(value, Mapping):
                return {self.key(key, steps): self.of(each, (*steps, str(key))) for key, each in value.items()}
            return [self.of(each, (*steps, str(index))) for index, each in enumerate(value)]
        finally:
            self.inside.remove(id(value))

    def key(self, key: Any, steps: Steps) -> str:
        if not isinstance(key, str):
            raise self.error(steps, f"has the key {key!r}, which is no text")
        return self.text(key, steps)

    def scalar(self, value: Any, steps: Steps) -> Any:
        if hasattr(value, "item") and getattr(value, "shape", None) == ():  # a number of numpy
            value = value.item()
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(str.__str__(value), steps)
        if isinstance(value, PurePath):
            return self.text(str(value), steps)
        if isinstance(value, int):
            if not -LARGEST < value < LARGEST:
                raise self.error(steps, "is a whole number of more than 40 digits")
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise self.error(steps, f"= {value}: recipes are recorded as JSON, which has finite numbers only")
            return float(value)
        raise self.error(
            steps,
            f"is an object of type {type(value).__name__}. Recipes hold text, numbers, true, false, null, lists and "
            "sections; give objects as arguments of `wrap` (rewards=, policies=, observers=)",
        )

    def text(self, text: str, steps: Steps) -> str:
        if NOT_TEXT.search(text):
            raise self.error(steps, f"= {text!r} is not Unicode text (a NUL, or bytes of another encoding)")
        return text

    def error(self, steps: Steps, problem: str) -> RecipeError:
        return RecipeError(f"{self.what}{'.'.join(steps) or 'the recipe'} {problem}.")
