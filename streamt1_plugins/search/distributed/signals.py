"""Signals that end a process, made into errors while a run is open, so that it is saved first."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""SIGTERM is what schedulers and launchers send, SIGHUP what a terminal sends that closes."""


@contextmanager
def on_ending(stop: Callable[[signal.Signals], None], *, replace: bool = False) -> Iterator[None]:
    """A context in which `stop` handles the signals that end a process, and may raise; the old handlers come back.

    A signal that is ignored stays so, as under nohup. replace: take the place of other handlers of SIGTERM too. Does
    nothing outside the main thread, which alone gets signals.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            now = signal.getsignal(number)
            if now is signal.SIG_DFL or (replace and number is signal.SIGTERM and now is not None):
                before[number] = signal.signal(number, lambda found, _: stop(signal.Signals(found)))
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # a generator may be closed in another one
            for number, handler in before.items():
                signal.signal(number, handler)
