"""Which requests reach the studio: those of its own page, with the token, and none that is too large or too slow."""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 32_768
"""Of the body of a request: a prompt and a few numbers."""

TOO_LONG = f"The body has more than {MOST_BYTES:,} bytes."

BODY_SECONDS = 10.0
"""In which a body has to arrive."""

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)
"""No script but the studio's own file runs, no text becomes markup, and nothing loads from elsewhere."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass
class Guard:
    """An ASGI app that hands on the requests of the studio's page, without the token, and refuses all others.

    Every path begins with the `token`. A page of another site can make a browser send requests here, to an address
    that it gives its own name: then `Host` is that name, or `Origin` another address. names: hosts that count, besides
    the address at which a request arrives.
    """

    app: ASGIApp
    token: str
    names: Collection[str] = LOCAL_NAMES
    _known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._known = frozenset(name.lower().strip("[]") for name in self.names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it without having read more of its body than is allowed."""
        if scope["type"] != "http":  # no lifespan, and no websockets
            return
        send = _with_headers(send)
        refused, body = self._refusal(scope), b""
        if refused is None and scope["method"] == "POST":
            refused, body = await _body(receive)
        if refused is not None:
            status, why = refused
            await JSONResponse({"error": why}, status)(scope, receive, send)
            return
        path = "/" + scope["path"].removeprefix("/").partition("/")[2]
        inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        await self.app(inner, _replayed(body, receive), send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """(status, why) of a request that is refused before its body is read."""
        headers = Headers(scope=scope)
        why = self._foreign(headers, (scope.get("server") or ("",))[0])
        if why is not None:
            return 403, why
        given = scope["path"].removeprefix("/").partition("/")[0]
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode()):
            return 403, "The token is wrong or missing: open the address that `streamt1 studio` printed."
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "The studio takes GET and POST."
        return _unfit(headers) if scope["method"] == "POST" else None

    def _foreign(self, headers: Headers, here: str) -> str | None:
        """Why a request comes from a page of another site, None where it does not. here: the address it arrived at."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _host(hosts[0]) not in {*self._known, here}:
            return "The Host of the request is not this studio."
        for origin in headers.getlist("origin"):
            if _netloc(origin) != hosts[0].lower():
                return "The Origin of the request is another page."
        is_visit = headers.get("sec-fetch-dest") == "document"  # a link that was followed: it shows the page, no more
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not is_visit:
            return "The request was made by another page."
        return None


def _unfit(headers: Headers) -> tuple[int, str] | None:
    """(status, why) of a POST whose body is not to be read."""
    length = headers.get("content-length", "")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return 415, "The body has to be application/json."
    if not (length.isascii() and length.isdecimal()) or "transfer-encoding" in headers:
        return 411, "The request must declare its Content-Length."
    if len(length) > 9 or int(length) > MOST_BYTES:
        return 413, TOO_LONG
    return None


def _host(header: str) -> str | None:
    """The name in a `Host`, in lower case and without its port, None where it is no host."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port
    except ValueError:
        return None
    return None if "@" in header or parts.path or parts.query or parts.fragment else parts.hostname


def _netloc(origin: str) -> str | None:
    """The host and port of an `Origin`, None where it has none."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


async def _body(receive: Receive) -> tuple[tuple[int, str] | None, bytes]:
    """(status and reason where a body is refused, the body)."""
    try:
        content = await asyncio.wait_for(_read(receive), BODY_SECONDS)
    except asyncio.TimeoutError:
        return (408, "The body of the request did not arrive in time."), b""
    return ((413, TOO_LONG), b"") if len(content) > MOST_BYTES else (None, content)


async def _read(receive: Receive) -> bytes:
    """The body of a request, or a start of it that is longer than it may be."""
    content = b""
    while len(content) <= MOST_BYTES:
        message = await receive()
        content += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            break
    return content


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, which has been read, and then what comes after it."""
    first = True

    async def again() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def _with_headers(send: Send) -> Send:
    """A `send` that adds the headers of every answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
