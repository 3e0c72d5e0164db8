"""Serves a studio: the socket, the token in its address, and uvicorn."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn

from streamt1_plugins.errors import InputError
from streamt1_studio.app import guarded
from streamt1_studio.guard import LOCAL_NAMES

if TYPE_CHECKING:
    from streamt1_studio.studio import Studio

MOST_REQUESTS = 64
"""Requests at once, open event streams among them."""

GRACE = 2
"""Seconds that requests in progress have to end when the server is stopped."""


class Served:
    """A socket on `host` and `port` at `url`, whose path begins with a new random token.

    Raises `InputError` for an address that cannot be used.
    """

    def __init__(self, host: str, port: int) -> None:
        host = host.strip("[]")
        self.token = secrets.token_urlsafe(24)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            if not host:  # which would be every address of this machine
                raise ValueError("the host is empty")
            self._socket = socket.create_server((host, port), family=family)
        except (OSError, TypeError, ValueError) as error:  # the last two for a name that no host can have
            raise InputError(
                f"Cannot serve on {host!r}, port {port}: {error}. Choose another --port or --host."
            ) from error
        bound = self._socket.getsockname()
        self.names = LOCAL_NAMES if _is_loopback(host) else {*LOCAL_NAMES, socket.gethostname()}
        self.names |= {host} if _is_specific(host) else set()
        shown = host if _is_specific(host) else socket.gethostname()
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{bound[1]}/{self.token}/"
        self._server: uvicorn.Server | None = None

    def run(self, studio: Studio) -> None:
        """Serve until `stop` or a signal."""
        settings: dict[str, Any] = {"log_config": None, "log_level": "critical", "access_log": False}
        settings |= {"ws": "none", "lifespan": "off", "limit_concurrency": MOST_REQUESTS, "server_header": False}
        app = guarded(studio, self.token, self.names)
        self._server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=GRACE, **settings))
        with suppress(KeyboardInterrupt):
            self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Make `run` return soon; callable from any thread."""
        if self._server is not None:
            self._server.should_exit = True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_specific(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return True
