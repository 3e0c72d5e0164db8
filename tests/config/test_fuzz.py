"""Mutated recipes and overrides, as files, data and commands: each is a recipe or one of our errors, in bounded time.

300 examples a test; ``FUZZ_EXAMPLES=10000`` tries more. The same examples every time.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamt1_plugins.config import yaml12
from streamt1_plugins.config.load import load, names
from streamt1_plugins.config.merge import flat
from streamt1_plugins.config.schema import Recipe
from streamt1_plugins.errors import StreamT1Error
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.resolve import resolve

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
SECONDS = 60.0
"""No example may take longer, on any machine: the hangs that this looks for take for ever."""

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

TEXTS = [path.read_text(encoding="utf-8") for path in names().values()]
TEXTS += [load(name).to_yaml() for name in ("stream-t1", "plain")]
KEYS = sorted(flat(load("stream-t1").model_dump()))
SNIPPETS = [
    *"{}[]:,&*#?|-<>=!%@`\"'\n\t ~.0",
    *("- ", "? ", ": ", "--- ", "...\n", "*a", "&a ", "<<: ", "!!python/object:os.system {}", "!!binary a", "null"),
    *(".inf", "-.inf", ".nan", "1e999", "9" * 50, "-1", "0", "1e3", "012", "0x1f", "1_000", "1:30", "2024-13-45"),
    *("on", "no", "true", "\x00", "\x85", "\u2028", "\ufeff", "é", "\U0001f3a5", "\\U99999999", "&a [*a]", "[" * 40),
    *("search: {top_k: 3}\n", "extends: plain\n", "extends: .\n", "extends: /dev/zero\n", "name: ", "{}", "[]", "{a: "),
]
VALUES: list[Any] = [None, True, False, 0, 1, -1, 3.5, 10**9, 2**64, 10**50, math.inf, math.nan, 1e308, -0.0, "", "no"]
VALUES += ["1", "cpu", "cuda:99", "nonsense", "~", "/", "\0", "\ud800", "x" * 5000, [], {}, [[]], {"name": None}]
VALUES += [{"name": "propagate"}, {"name": [1]}, {1: 2}, {"": {}}, ["a", {"b": []}], {"a": {"a": {"a": {}}}}, (1, 2)]
VALUES += [object(), b"bytes", Path("x"), {3}, "plain", "http://[", "http://a b", "running", "rank"]


def mutated_text(text: str, random: random.Random) -> str:
    """A recipe's text with a few pieces cut, doubled, swapped or put in."""
    for _ in range(random.randint(1, 4)):
        start = random.randrange(len(text) + 1)
        end = min(len(text), start + random.choice((0, 1, 1, 3, 20)))
        piece = random.choice(
            (random.choice(SNIPPETS), text[start:end] * 2, "", random.choice(text.splitlines() or [""]) + "\n")
        )
        text = text[:start] + piece + text[end:]
    return text


def mutated_data(data: Any, random: random.Random) -> Any:
    """A recipe's data with a few values or keys replaced, anywhere."""
    for _ in range(random.randint(1, 3)):
        place: Any = data
        while isinstance(place, dict) and place:
            key = random.choice(list(place))
            if random.random() < 0.3 or not isinstance(place[key], dict) or not place[key]:
                if random.random() < 0.2:
                    place[random.choice((*place, "name", "options", "where", 7, None, ""))] = place.pop(key)
                else:
                    place[key] = deepcopy(random.choice(VALUES))
                break
            place = place[key]
    return data


@st.composite
def overrides(draw: st.DrawFn) -> list[str]:
    """A few overrides, of known and of unknown keys, with values of every kind."""
    key = st.sampled_from(KEYS) | st.builds("{}.{}".format, st.sampled_from(KEYS), st.sampled_from(SNIPPETS))
    key |= st.sampled_from(
        ["observers.video", "rewards.long.basic", "rewards.long.basic.where", "", "a", ".", "extends"]
    )
    value = st.sampled_from(SNIPPETS) | st.text(max_size=8) | st.sampled_from([str(each) for each in VALUES])
    return draw(st.lists(st.builds("{}={}".format, key, value), min_size=1, max_size=3))


def outcome(source: Any, changes: Any = ()) -> Recipe | StreamT1Error:
    """The complete recipe, or our error; any other error gets through."""
    start = time.monotonic()
    try:
        load(source, changes)
        found = resolve(source, overrides=changes)
        build.rewards(found)
        build.observers(found)
        return found
    except StreamT1Error as error:
        return error
    finally:
        assert time.monotonic() - start < SECONDS


def assert_survives(found: Recipe | StreamT1Error) -> None:
    """What is accepted reads back as it was, and what is not has a message."""
    assert isinstance(found, Recipe) or str(found)
    if isinstance(found, Recipe):
        assert load(yaml12.read(found.to_yaml(), "it")) == found


@fuzz
@given(st.sampled_from(TEXTS), st.randoms(use_true_random=False))
def test_a_mutated_file_is_a_recipe_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, random: random.Random
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    path.write_bytes(mutated_text(text, random).encode("utf-8", "surrogatepass"))
    assert_survives(outcome(path))


@fuzz
@given(st.sampled_from(TEXTS), st.randoms(use_true_random=False))
def test_mutated_data_are_a_recipe_or_our_error(text: str, random: random.Random) -> None:
    data = mutated_data(yaml12.read(text, "it"), random)
    assert isinstance(data, Mapping)
    assert_survives(outcome(data))


@fuzz
@given(st.sampled_from(sorted(names())), overrides())
def test_mutated_overrides_are_a_recipe_or_our_error(name: str, changes: list[str]) -> None:
    assert_survives(outcome(name, changes))
