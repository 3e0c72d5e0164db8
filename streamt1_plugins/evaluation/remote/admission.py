"""Which requests a reward server takes: those that mean it, and not more at once than it can hold."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from streamt1_plugins.config.trust import is_loopback

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def refusal(headers: Iterable[tuple[bytes, bytes]], here: str, names: Collection[str]) -> str | None:
    """Why a request is not for this server, None where it is.

    A web page on any site can make a browser send requests, to any address that it gives its own name. Its requests
    have that name as `Host`, or its address as `Origin`. here: the address that was called; names: others that count.
    """
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        return "The request must have one Host."
    known = {here, *names, *(LOCAL_NAMES if is_loopback(here) else ())}
    host = host_of(hosts[0])
    if host is None or host not in {name.lower() for name in known}:
        return f"Host {hosts[0]!r} is not this server. Start it with --allow-host NAME to serve it under that name."
    for name, value in headers:
        if name == b"origin" and urlsplit_or_none(value.decode("latin-1")) != hosts[0].lower():
            return f"Origin {value.decode('latin-1')!r}: requests of web pages are refused."
    return None


def host_of(header: str) -> str | None:
    """The name or address in a `Host`, in lower case and without port and brackets. None where it is no host."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port
    except ValueError:
        return None
    return None if "@" in header or parts.path or parts.query or parts.fragment else parts.hostname


def urlsplit_or_none(origin: str) -> str | None:
    """The host and port of an `Origin`, None where it has none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


class BusyError(Exception):
    """The server has as many requests as it holds; a later one may find room."""


@dataclass
class Admission:
    """Counts the requests that wait or run, and the bytes of their bodies, and refuses more than its limits.

    A request that is alone is never too large: its own size has another limit.
    """

    max_requests: int
    max_bytes: int
    requests: int = 0
    bytes: int = 0

    @contextmanager
    def admitted(self, size: int) -> Iterator[None]:
        """Hold room for a body of this size. Raises `BusyError` where there is none."""
        if self.requests >= self.max_requests or (self.requests and self.bytes + size > self.max_bytes):
            raise BusyError
        self.requests, self.bytes = self.requests + 1, self.bytes + size
        try:
            yield
        finally:
            self.requests, self.bytes = self.requests - 1, self.bytes - size
