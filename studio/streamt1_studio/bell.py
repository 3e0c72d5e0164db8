"""Wakes the event streams of browsers when a thread has changed something."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Bell:
    """`ring`, from any thread, sets the events of all who listen."""

    _listening: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=set)

    def ring(self) -> None:
        """Wake every listener."""
        for loop, event in tuple(self._listening):
            with suppress(RuntimeError):  # a loop that has ended
                loop.call_soon_threadsafe(event.set)

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """An event that `ring` sets; its listener clears it."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        self._listening.add(entry)
        try:
            yield entry[1]
        finally:
            self._listening.discard(entry)
