"""The option `--seeds` of `streamt1 generate`: several seeds, as numbers and ranges."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

from streamt1_plugins.errors import InputError

MOST, LARGEST = 10_000, 2**64 - 1
FORM = "Write numbers and ranges, e.g. --seeds 1 2 3, --seeds 1,2,3 or --seeds 0-7."

_PART = re.compile(r"(\d+)(?:(?:-|\.\.)(\d+))?")
_PARTS = re.compile(r"\d[\d,.-]*")


class WithSeeds(TyperCommand):
    """A command whose option `--seeds` takes every number that follows it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        return super().parse_args(ctx, joined(args))


def joined(args: list[str]) -> list[str]:
    """The arguments with the numbers behind `--seeds` as one: ``--seeds 1 2 3`` becomes ``--seeds 1,2,3``."""
    found = list(args)
    for place in (place for place, each in enumerate(args) if each == "--seeds"):
        end = place + 1
        while end < len(args) and _PARTS.fullmatch(args[end]):
            end += 1
        if end > place + 2:
            return [*args[: place + 1], ",".join(args[place + 1 : end]), *joined(args[end:])]
    return found


def seeds_of(text: str) -> list[int]:
    """The seeds that a text names, each once, in its order. Raises `InputError`."""
    found: dict[int, None] = {}
    for part in text.replace(",", " ").split():
        match = _PART.fullmatch(part)
        if match is None:
            raise InputError(f"--seeds {text!r}: {part!r} is neither a number nor a range. {FORM}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last > LARGEST or last - first >= MOST:
            raise InputError(
                f"--seeds {text!r}: {part!r} has to go up, to at most 2**64 - 1, with at most {MOST:,} seeds."
            )
        found |= dict.fromkeys(range(first, last + 1))
    if not 0 < len(found) <= MOST:
        raise InputError(f"--seeds {text!r} names {len(found)} seeds, and 1 to {MOST:,} are possible. {FORM}")
    return list(found)
