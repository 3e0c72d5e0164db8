"""A connection of the reward server, closed where no whole request arrives in time or others need its place."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from streamt1_plugins.errors import needs_extra

with needs_extra("serve", "A reward in another process"):
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger("streamt1")

HEADER_SECONDS = 10.0  # for the line and the headers of a request, and for what is left of a body after its answer
IDLE_SECONDS = 60.0  # between two requests
MOST = 4000  # connections of a server, where the system lets it open twice as many files


def most_connections() -> int:
    """How many connections this process can hold, with files left for everything else."""
    try:
        import resource
    except ModuleNotFoundError:  # not POSIX
        return MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 2)


class Connection(H11Protocol):
    """HTTP/1.1 as uvicorn has it. A connection without a whole request header in time is closed.

    waiting: the server's connections without a request, the one that has waited longest first. most: connections that
    the server holds; another one takes the place of the longest waiting.
    """

    def __init__(self, waiting: dict[Connection, None], most: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._waiting, self._most = waiting, most
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock, and close the longest waiting connections where there are too many."""
        super().connection_made(transport)
        self._wait(HEADER_SECONDS)
        if len(self.connections) > self._most:
            next(iter(self._waiting)).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def handle_events(self) -> None:
        """Take what has arrived; the clock stops while a request is answered."""
        super().handle_events()
        if self.is_busy:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that nobody reads, or for the next request."""
        unread = self.conn.their_state is h11.SEND_BODY
        super().on_response_complete()
        if not self.is_busy and not self.transport.is_closing():
            self._wait(HEADER_SECONDS if unread else IDLE_SECONDS + HEADER_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in one line of the log; without an answer where another one has begun."""
        log.warning("Refused bytes of %s: %s", self.client and self.client[0], msg)
        if self.is_busy:  # with a request whose body is damaged
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.drop()

    def drop(self) -> None:
        """End the connection."""
        self._stop_waiting()
        self.transport.abort()

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._waiting[self] = None
        self._deadline = self.loop.call_later(seconds, self.drop)

    def _stop_waiting(self) -> None:
        self._waiting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
