"""One session per pipeline at a time: another thread waits, and the same thread learns what it has to close first.

The lock belongs to the pipeline inside, so that two wrappers of one pipeline share it.
"""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import Session

PAUSE = 1.0  # seconds between two looks at the thread that holds a pipeline: it may have ended without closing


@dataclass(eq=False)
class PipelineLock:
    """Gives a pipeline to one session or call at a time."""

    pipe: Any  # kept alive, so that its id means this pipeline as long as the lock exists
    holder: Hold | None = None
    # Reentrant: the garbage collector may release an abandoned hold while this thread is in `acquire`.
    changed: threading.Condition = field(default_factory=threading.Condition)

    def acquire(self, what: str) -> Hold:
        """Take the pipeline, as soon as no other thread uses it. `what`: it in words, with the way to close it.

        Raises `InputError` where this thread holds it already, or a thread that has ended.
        """
        mine = Hold(what, threading.current_thread(), self)
        with self.changed:
            while (other := self.holder) is not None:
                if other.thread is mine.thread or not other.thread.is_alive():
                    self._collect(other)
                else:
                    self.changed.wait(PAUSE)
            self.holder = mine
        return mine

    def _collect(self, other: Hold) -> None:
        """Free a pipeline whose stream or session was abandoned. Raises `InputError` where it still exists."""
        gc.collect()
        if self.holder is other:
            raise InputError(f"This pipeline is in use by {other.what}. Close that first.")


@dataclass(eq=False)
class Hold:
    """The use of a pipeline, until `release`. As a context it ends with the block."""

    what: str
    thread: threading.Thread
    _lock: PipelineLock = field(repr=False)
    _sessions: set[int] = field(default_factory=set, repr=False)

    def release(self) -> None:
        """Let the next one in; a second call does nothing."""
        with self._lock.changed:
            if self._lock.holder is self:
                self._lock.holder = None
                self._lock.changed.notify_all()

    def release_with(self, session: Session) -> None:
        """Release when the session is closed, by whomever, or garbage collected: the last one, where there are several.

        A session without instance attributes cannot announce that it is closed; `Run.close` releases for it.
        """
        number = id(session)
        with suppress(TypeError):
            weakref.finalize(session, self._ended, number).atexit = False
            close = weakref.WeakMethod(session.close)  # weak: a cycle would keep the session's tensors for longer

            def closed() -> None:
                try:
                    if (original := close()) is not None:
                        original()
                finally:
                    self._ended(number)

            vars(session)["close"] = closed
            self._sessions.add(number)

    def _ended(self, number: int) -> None:
        """A session was closed or collected, once or twice."""
        self._sessions.discard(number)
        if not self._sessions:
            self.release()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_of(pipe: Any) -> PipelineLock:
    """The lock of this pipeline object, the same for everyone."""
    with _GUARD:
        return _LOCKS.setdefault(id(pipe), PipelineLock(pipe))


_GUARD = threading.Lock()
_LOCKS: weakref.WeakValueDictionary[int, PipelineLock] = weakref.WeakValueDictionary()
