"""Whose words a recipe holds, its user's or a file's, and what the user has allowed files to name."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TRUST = "STREAMT1_TRUST"
"""The environment variable with what files may name: URLs, programs, files, folders and observers, with commas."""

URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
PORTS = {"http": 80, "https": 443}

Steps = tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """Where a recipe's values come from. All origins are equal, so that recipes compare by their values.

    foreign: places of the values that a file or a record holds. agreed: whether the user agreed to all that is in it.
    name: what the recipe goes by, a shipped name or a file's without folder and ending; empty for plain data.
    """

    foreign: frozenset[Steps] = field(default=frozenset(), compare=False)
    agreed: bool = field(default=False, compare=False)
    name: str = field(default="", compare=False)

    @classmethod
    def of(cls, data: Mapping[str, Any], name: str = "") -> Origin:
        """The origin of a recipe whose data is all from elsewhere."""
        return cls(frozenset(places(data)), name=name)

    def without(self, mine: Iterable[Steps]) -> Origin:
        """The origin after the user set the values at these places."""
        own = set(mine)
        return replace(self, foreign=frozenset(each for each in self.foreign if not own.intersection(_ancestors(each))))

    def covers(self, place: Steps) -> bool:
        """Whether the value at a place, or a part of it, is from elsewhere."""
        return any(place[: len(each)] == each or each[: len(place)] == place for each in self.foreign)


def places(data: Any, above: Steps = ()) -> Iterator[Steps]:
    """The places of all values in nested data; an empty section is a value."""
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from places(value, (*above, str(key)))
    else:
        yield above


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_listed_server(url: str) -> bool:
    """Whether the user's list has a URL of the same scheme, host and port."""
    server = _server(url)
    return server is not None and server in {_server(each) for each in listed() if URL.match(each)}


def is_listed_file(path: str) -> bool:
    """Whether the user's list has a file, or a folder around it."""
    return any(is_inside(path, each) for each in listed() if not URL.match(each))


def is_listed_program(program: str) -> bool:
    """Whether the user's list has a program as it is written, or a folder around it.

    Symbolic links are not followed: the Python of every virtual environment is a link to the same file.
    """
    if os.sep not in program:
        return program in listed()
    path = Path(os.path.abspath(program))
    return ".." not in Path(program).parts and any(
        path.is_relative_to(os.path.abspath(Path(each).expanduser())) for each in listed() if os.sep in each
    )


def listed() -> list[str]:
    """The entries of the user's list."""
    return [each.strip() for each in os.environ.get(TRUST, "").split(",") if each.strip()]


def is_inside(path: str | Path, folder: str | Path) -> bool:
    """Whether a path is `folder` or in it, wherever symbolic links lead."""
    try:
        return _real(path).is_relative_to(_real(folder))
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, links in a circle, an unknown ~user
        return False


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(Path(path).expanduser()))


def _server(url: str) -> tuple[str, str, int | None] | None:
    """What decides where a request arrives: scheme, host and port. None for text that is no URL."""
    try:
        parts = urlsplit(url)
        return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme.lower())
    except ValueError:
        return None


def _ancestors(place: Steps) -> Iterator[Steps]:
    return (place[:length] for length in range(len(place) + 1))
