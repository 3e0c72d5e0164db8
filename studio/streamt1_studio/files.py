"""Reading the files of run folders that somebody else may have written: plain files of a bounded size alone."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 2**20
"""Of a file that is read."""

STRIPS = "strips"
_STRIP = re.compile(r"(?P<node>\d{3,6}\.\d{2,6})-(?P<frames>[1-9]\d{0,2})\.webp")


def read(path: Path, limit: int = MOST_BYTES) -> bytes | None:
    """The start of a file, `limit` bytes at most; None where it is a link, no regular file, or not there."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def read_json(path: Path, limit: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object of a file, empty where the file holds none."""
    return parsed(read(path, limit) or b"")


def parsed(content: bytes) -> dict[str, Any]:
    """The JSON object in these bytes, empty where they hold none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_plain(path: Path) -> bool:
    """Whether a path is a regular file, and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def strips(folder: Path) -> dict[str, tuple[int, Path]]:
    """Frames and file of every film strip in a run folder, by node id."""
    place = folder / STRIPS
    if place.is_symlink() or not place.is_dir():
        return {}
    named = ((path, _STRIP.fullmatch(path.name)) for path in sorted(place.iterdir()))
    return {match["node"]: (int(match["frames"]), path) for path, match in named if match and is_plain(path)}
