"""YAML 1.2 as recipes have it: the core schema, what is refused and where, and writing that all readers read alike."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from streamt1_plugins.config import yaml12
from streamt1_plugins.errors import RecipeError

SCALARS: dict[str, Any] = {
    **{
        text: text
        for text in ("on", "off", "yes", "no", "y", "1_000", "1:30", "2024-01-01", "0b1", "+.inf.", "=", "a b")
    },
    **{"012": 12, "0o14": 12, "0x1F": 31, "-7": -7, "+7": 7, "1e3": 1000.0, ".5": 0.5, "1.": 1.0, "-1.5E-3": -0.0015},
    **{"true": True, "False": False, "null": None, "~": None, "": None, "'5'": "5", '"no"': "no"},
}

TEXTS = [
    "no",
    "1e3",
    "1E5",
    "0o14",
    "012",
    "1:30",
    "2024-01-01",
    "=",
    "<<",
    "~",
    "",
    "null",
    "on",
    "1_000",
    ".inf",
    "0x1F",
]
TEXTS += [
    "x: y",
    "#a",
    "true",
    "+1",
    "1.",
    "é",
    "\n",
    "a\n\nb ",
    "🎥",
    "\x1b[0m",
    "- a",
    "\x85x",
    "a\u2028b",
    "\ufeff",
    "!x",
]


@pytest.mark.parametrize(("text", "value"), SCALARS.items())
def test_scalars_are_those_of_the_core_schema(text: str, value: Any) -> None:
    found = yaml12.read(f"a: {text}", "it")["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("a: 1\nb: 2\na: 3", 3, 1, "the key 'a' is given twice, first in line 1"),
        ("a: {b: 1, b: 2}", 1, 11, "the key 'b' is given twice"),
        ("a: &x [1]", 1, 4, "aliases .* and anchors"),
        ("a: *x", 1, 4, "aliases"),
        ("<<: {a: 1}", 1, 1, "merge keys"),
        ("a: !!python/object:os.system {}", 1, 4, "tags are not allowed"),
        ("a: !!str 1", 1, 4, "tags are not allowed"),
        ("a: !x 1", 1, 4, "tags are not allowed"),
        ("1: a", 1, 1, "keys are text, found '1'"),
        ("on: a\ntrue: b", 2, 1, "keys are text, found 'true'"),
        ("? [1]\n: 2", 1, 3, "keys are text, found a list or a section"),
        ("a: 1\n--- \nb: 2", 2, 1, "expected a single document"),
        ("%YAML 1.1\n---\na: on", 1, 1, "recipes are YAML 1.2"),
        ("a:\n\tb: 1", 2, 1, "found character .* that cannot start any token"),
        ("a: [1", 1, 6, "expected"),
        ("a: 1e999", 1, 4, "too large for a number"),
        (f"a: {'9' * 5000}", 1, 4, "a number of 5000 characters"),
        ("[" * 5000, 1, 21, "more than 20 levels"),
        ("- " * 5000, 1, 41, "more than 20 levels"),
        ("a: \0", 1, 4, r"U\+0000 is not allowed"),
        ("a: b\nc: d\u2028e", 2, 5, r"U\+2028 ends a line in some programs"),
    ],
)
def test_what_is_refused_is_named_with_its_place(text: str, line: int, column: int, problem: str) -> None:
    with pytest.raises(RecipeError, match=f"^mine.yaml is not YAML.*: line {line}, column {column}: .*{problem}"):
        yaml12.read(text, "mine.yaml")


@pytest.mark.parametrize("text", ['a: "\\U99999999"', "a: '", "\ud800", "%TAG ! x\n--- !y"])
def test_what_the_library_stumbles_over_is_an_error_too(text: str) -> None:
    with pytest.raises(RecipeError, match="is not YAML"):
        yaml12.read(text, "it")


def test_a_small_text_cannot_grow() -> None:
    laughs = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True))
    start = time.monotonic()
    with pytest.raises(RecipeError, match="anchors"):
        yaml12.read(laughs, "it")
    with pytest.raises(RecipeError, match="levels"):
        yaml12.read("a: " + "[[" * 100_000, "it")
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: {"key": [text]}, lambda text: {text: 1}])
def test_texts_are_written_so_that_every_reader_reads_them_back(text: str, wrap: Any) -> None:
    data = wrap(text)
    written = yaml12.write(data)
    assert yaml.safe_load(written) == data
    if data != {"<<": 1}:  # quoted it is a key as any other
        assert yaml12.read(written, "it") == data


def test_numbers_keep_their_types() -> None:
    data = {"a": [1, -1.5, 1e20, 1e-7, 10**30, True, None], "b": {}, "c": []}
    assert yaml12.read(yaml12.write(data), "it") == data
    assert yaml12.write([[1]] * 2) == "- - 1\n- - 1\n"
