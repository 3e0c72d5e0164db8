"""How other processes of this machine end: noticed at once, with their exit code or signal."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger("streamt1")

UNKNOWN = "has ended"


class EndingWatch:
    """Calls ``seen(rank, ending)`` from a thread when a process of this machine ends, until `stop`.

    Where the system has no handles of processes (it is not Linux) nothing is ever seen.
    """

    def __init__(self, pids: Mapping[int, int], seen: Callable[[int, str], None]) -> None:
        """`pids`: by rank."""
        self._seen, self._pids = seen, pids
        self._ranks: dict[int, int] = {}  # by handle
        self._thread: Thread | None = None
        if hasattr(os, "pidfd_open"):
            for rank, pid in pids.items():
                self._open(rank, pid)
            self._wake = os.pipe()
            self._thread = Thread(target=self._watch, name="streamt1-endings", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and give the handles back."""
        if self._thread is not None:
            os.write(self._wake[1], b".")
            self._thread.join()
            for handle in (*self._ranks, *self._wake):
                os.close(handle)
        self._thread = None

    def _open(self, rank: int, pid: int) -> None:
        try:
            self._ranks[os.pidfd_open(pid)] = rank
        except ProcessLookupError:
            self._seen(rank, UNKNOWN)
        except OSError as error:
            log.debug("Process %d cannot be watched: %s", pid, error)

    def _watch(self) -> None:
        poll = select.poll()
        for handle in (*self._ranks, self._wake[0]):
            poll.register(handle, select.POLLIN)
        while True:
            ready = [handle for handle, _ in poll.poll()]
            if self._wake[0] in ready:
                return
            for handle in ready:
                poll.unregister(handle)
                rank = self._ranks[handle]
                self._seen(rank, ending(self._pids[rank]))


def ending(pid: int) -> str:
    """How a process that has ended did so. Its exit code can be read until its parent has read it."""
    try:
        # The fields follow the name, which may hold anything; the last one is the status that its parent will read.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        code = os.waitstatus_to_exitcode(int(fields[-1]))
    except (OSError, ValueError, IndexError):
        return UNKNOWN
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {_name(-code)}"


def machine() -> str:
    """Names what has the process numbers of this process: the machine, or a container of its own numbers on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _name(number: int) -> str:
    hint = ", as the system does when memory runs out" if number == signal.SIGKILL else ""
    try:
        return signal.Signals(number).name + hint
    except ValueError:
        return f"signal {number}"
