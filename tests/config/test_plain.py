"""Plain data: copies of what a recipe holds, and errors with the key for everything else."""

from __future__ import annotations

import enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from streamt1_plugins.config.plain import MAX_DEPTH, MAX_VALUES, plain
from streamt1_plugins.errors import RecipeError


class Word(str, enum.Enum):
    ONE = "one"


def circle() -> dict[str, Any]:
    data: dict[str, Any] = {}
    data["search"] = {"again": data}
    return data


def nested(depth: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(depth):
        data = {"a": data}
    return data


def test_plain_data_is_copied_and_what_python_writes_otherwise_is_made_plain() -> None:
    data = MappingProxyType({"a": (1, [2.5, None, True]), "p": Path("x/y"), "w": Word.ONE, "n": np.int64(3)})
    found = plain({"data": data, "f": np.float64(0.5), "t": torch.tensor(2)})
    assert found == {"data": {"a": [1, [2.5, None, True]], "p": "x/y", "w": "one", "n": 3}, "f": 0.5, "t": 2}
    assert [type(found["data"][name]) for name in "pwn"] == [str, str, int]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("inf"), "a.b = inf: recipes are recorded as JSON, which has finite numbers only"),
        (np.float32("nan"), "a.b = nan"),
        (object(), "a.b is an object of type object"),
        (np.array([1]), "a.b is an object of type ndarray"),
        (b"x", "a.b is an object of type bytes"),
        ({1: 2}, "a.b has the key 1, which is no text"),
        ("a\0", "a.b = 'a.x00' is not Unicode text"),
        ("\udcff", "a.b = .* is not Unicode text"),
        ([1, {"c": "\ud800"}], r"a\.b\.1\.c = .* is not Unicode text"),
        (10**50, "a.b is a whole number of more than 40 digits"),
        (nested(MAX_DEPTH), "lies deeper than"),
        ([0] * MAX_VALUES, "has more than"),
    ],
)
def test_anything_else_is_an_error_with_its_key(value: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=f"^mine: .*{message}"):
        plain({"a": {"b": value}}, "mine")


def test_data_that_contain_themselves_are_an_error_and_data_used_twice_are_not() -> None:
    with pytest.raises(RecipeError, match=r"search\.again contains itself"):
        plain(circle())
    shared = {"x": 1}
    assert plain({"a": shared, "b": shared}) == {"a": {"x": 1}, "b": {"x": 1}}
