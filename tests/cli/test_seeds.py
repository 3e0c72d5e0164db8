"""The option `--seeds`: numbers and ranges, behind one option."""

from __future__ import annotations

import pytest

from streamt1_plugins import InputError
from streamt1_plugins.cli.seeds import joined, seeds_of


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("5", [5]),
        ("3,1,3", [3, 1]),
        ("1 2", [1, 2]),
        ("0-2,7", [0, 1, 2, 7]),
        ("4..5", [4, 5]),
        (f"{2**64 - 1}", [2**64 - 1]),
    ],
)
def test_numbers_and_ranges_each_once_in_their_order(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "x", "1-", "-1", "3-1", "1.5", "0-10000", f"{2**64}", ",".join(map(str, range(10_001)))]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--seeds"):
        seeds_of(text)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["a", "--seeds", "1", "2", "5-7", "-q"], ["a", "--seeds", "1,2,5-7", "-q"]),
        (["--seeds", "1", "2", "3 birds"], ["--seeds", "1,2", "3 birds"]),
        (["--seeds", "1", "-o", "seed=2"], ["--seeds", "1", "-o", "seed=2"]),
        (["--seeds"], ["--seeds"]),
        (["a"], ["a"]),
    ],
)
def test_what_follows_the_option_belongs_to_it(args: list[str], expected: list[str]) -> None:
    assert joined(args) == expected
