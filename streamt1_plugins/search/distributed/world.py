"""The processes that a launcher started: how many, which one this is, and how they end together.

They communicate over gloo, whatever the device: messages are small, a process that is lost or late raises an error
here instead of hanging a GPU, and two processes may share one card.
"""

from __future__ import annotations

import atexit
import logging
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # imported once connected, its default arguments would keep the connection open
from accelerate import PartialState

from streamt1_plugins.errors import StreamT1Error
from streamt1_plugins.placement import chosen
from streamt1_plugins.search.distributed.status_board import Status, StatusBoard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType, TracebackType

log = logging.getLogger("streamt1")

GRACE = 3.0  # seconds a process that failed waits for one of lower rank to report it


class LostProcessError(StreamT1Error, RuntimeError):
    """Another process of the run failed, ended or does not answer. `reported`: the user has seen its own error."""

    def __init__(self, message: str, *, reported: bool = False) -> None:
        super().__init__(message)
        self.reported = reported


@dataclass
class World:
    """All processes of a launch, seen from number `rank`. `device`: where this one should put its model."""

    rank: int
    size: int
    device: str
    status_board: StatusBoard
    is_over: bool = field(default=False, repr=False)
    _groups: list[dist.ProcessGroup] = field(default_factory=list, repr=False)

    def connect(self, ranks: Sequence[int], timeout: float) -> int:
        """Connect these processes and return the connection's number; all processes of the world have to call it.

        timeout: seconds a process waits for the others, after which it gets an error.
        """
        self._groups.append(dist.new_group([*ranks], timeout=timedelta(seconds=timeout), backend="gloo"))
        return len(self._groups) - 1

    def group(self, number: int) -> dist.ProcessGroup:
        """A connection, to be used at once and not kept. Raises `RuntimeError` where it has been closed."""
        if number >= len(self._groups):
            raise RuntimeError("the connection has been closed")
        return self._groups[number]

    def close(self) -> None:
        """Close all connections.

        Each has threads, which end with the last reference to it. Those still there when Python ends can abort the
        process, so only this object keeps one.
        """
        self._groups.clear()
        if dist.is_initialized():
            dist.destroy_process_group()

    @contextmanager
    def fail_together(self) -> Iterator[None]:
        """A context in which an error that ends this process ends the others too, with a message that names it."""
        with ExitStack() as stack:
            stack.enter_context(self._raise_on_sigterm())
            stack.push(self._publish_failure)
            yield

    def _publish_failure(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish an error, then close the connections: processes that wait for this one wake up and read it."""
        if error is None or self.is_over:
            return
        self.is_over = True
        expected = isinstance(error, StreamT1Error) or not isinstance(error, Exception)
        if not expected:  # it is not caught anywhere, so this is the only place that can name the activity
            log.error("%s: %s: %s", self._during(self.rank, self.status_board.mine), type(error).__name__, error)
        try:
            self.status_board.update(failed=self._account(error), reported=not expected)
        except RuntimeError as gone:
            log.debug("The status board is gone: %s", gone)
        self.close()

    @contextmanager
    def _raise_on_sigterm(self) -> Iterator[None]:
        """Launchers end the others with SIGTERM when one process dies: an error then, so that the run is saved."""

        def stop(number: int, frame: FrameType | None) -> None:
            if not self.is_over:  # else it is about to end by itself, after saving what there is
                raise self.lost("got SIGTERM, as when another process has died")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN if self.is_over else before)

    def lost(self, otherwise: str, exchange: int | None = None, cause: str = "has ended") -> LostProcessError:
        """The error for this process when another one is to blame: one that failed, or that missed an `exchange`.

        otherwise: what happened to this process, where no culprit is found. cause: what became of those who missed it.
        """
        try:
            others = {rank: self.status_board.status(rank) for rank in range(self.size) if rank != self.rank}
        except RuntimeError as error:
            return LostProcessError(f"The process that the others meet at is gone ({error}).")
        for status in others.values():
            if status.failed:
                return LostProcessError(status.failed, reported=status.reported)
        late = {r: status for r, status in others.items() if exchange is not None and status.exchanges < exchange}
        if late:
            return LostProcessError("; ".join(f"{self._during(r, status)}: it {cause}" for r, status in late.items()))
        listed = "; ".join(self._during(rank, status) for rank, status in others.items())
        return LostProcessError(f"{self._during(self.rank, self.status_board.mine)}: it {otherwise}. {listed}")

    def located(self, error: StreamT1Error) -> StreamT1Error:
        """`error`, with this process and its activity where that adds something."""
        if isinstance(error, LostProcessError) or self.status_board.mine.activity == Status.activity:
            return error
        return LostProcessError(f"{self._during(self.rank, self.status_board.mine)}: {error}", reported=True)

    def _account(self, error: BaseException) -> str:
        """This process's error for the user, in the same words whichever process reports it."""
        if isinstance(error, LostProcessError):  # names the process and its activity already
            return str(error)
        kind = "" if isinstance(error, StreamT1Error) else type(error).__name__
        return f"{self._during(self.rank, self.status_board.mine)}: " + ": ".join(filter(None, (kind, str(error))))

    def _during(self, rank: int, status: Status) -> str:
        return f"Process {rank} of {self.size} while {status.activity}"

    def reports(self, error: BaseException) -> bool:
        """Whether this process should report `error` to the user: the lowest-ranked one that can does."""
        if isinstance(error, LostProcessError) and error.reported:
            return False
        end = time.monotonic() + GRACE
        try:
            while self.rank and not self.status_board.any_failed(range(self.rank)):
                if time.monotonic() > end:
                    break
                time.sleep(0.05)
            else:
                if self.rank:
                    return False
            self.status_board.update(reported=True)
        except RuntimeError:
            log.debug("The status board is gone, so this process reports %s", error)
        return True


@cache
def world(device: str | None = None) -> World:
    """The processes of this launch; they connect on the first call, which all have to make.

    device: where to run, see `placement.chosen`.
    """
    where = chosen(device)
    state = PartialState(cpu=device is not None or not torch.cuda.is_available())
    here = World(state.process_index, state.num_processes, where, StatusBoard(state.process_index))
    atexit.register(here.close)
    return here
