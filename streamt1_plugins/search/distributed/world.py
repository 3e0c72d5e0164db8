"""The processes that a launcher started: how many, which one this is, and how they end together.

They communicate over gloo, whatever the device: messages are small, a process that is lost or late raises an error
here instead of hanging a GPU, and two processes may share one card. The connections are this package's own: torch's
default process group, and what the program does with it, stay as they are.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

from torch.distributed import ProcessGroupGloo, rendezvous  # type: ignore[attr-defined]

from streamt1_plugins.errors import InputError, StreamT1Error
from streamt1_plugins.process.placement import chosen
from streamt1_plugins.search.distributed.endings import UNKNOWN, EndingWatch
from streamt1_plugins.search.distributed.signals import on_ending
from streamt1_plugins.search.distributed.status_board import Status, StatusBoard, part

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from torch.distributed import ProcessGroup, Store  # type: ignore[attr-defined]

log = logging.getLogger("streamt1")

PREFIX = "streamt1"
CONNECT = timedelta(seconds=60)
GRACE = 3.0  # seconds a process that failed waits for one of lower rank to report it
NEWS = 1.0  # seconds within which the failure or the end of another process is published
FINISHED = "finished"
PAUSE = 0.02  # seconds between two looks at the status board


class LostProcessError(StreamT1Error, RuntimeError):
    """Another process of the run failed, ended or does not answer.

    `reported`: the user has seen its own error. `first_has_ended`: the process that records the run is gone.
    """

    def __init__(self, message: str, *, reported: bool = False, first_has_ended: bool = False) -> None:
        super().__init__(message)
        self.reported = reported
        self.first_has_ended = first_has_ended


@dataclass
class World:
    """All processes of a launch, seen from number `rank`, until one of them fails.

    `device`: where this one should put its model. `made`: what was built for these processes, by its settings.
    """

    rank: int
    size: int
    device: str
    status_board: StatusBoard
    is_over: bool = field(default=False, repr=False)
    made: dict[Any, Any] = field(default_factory=dict, repr=False)
    _groups: dict[tuple[int, ...], ProcessGroup] = field(default_factory=dict, repr=False)
    _watches: list[EndingWatch] = field(default_factory=list, repr=False)
    _watched: set[int] = field(default_factory=set, repr=False)

    def group(self, ranks: Sequence[int], timeout: float) -> ProcessGroup:
        """The connection of the processes `ranks`, of which this is one; to be used at once and not kept.

        timeout: seconds a process waits for the others, after which it gets an error. Raises `RuntimeError` where the
        connection has been closed, `LostProcessError` where one of the processes does not join.
        """
        if self.is_over:
            raise RuntimeError("the connection has been closed")
        key = tuple(ranks)
        if key not in self._groups:
            self._await(ranks, timeout)
            store = part(self.status_board.store, "gloo", *ranks)
            self._groups[key] = _connected(store, key.index(self.rank), len(key), timeout)
        return self._groups[key]

    def close(self) -> None:
        """Close all connections.

        Each has threads, which end with the last reference to it. Those still there when Python ends can abort the
        process, so only this object keeps one.
        """
        self._groups.clear()
        while self._watches:
            self._watches.pop().stop()

    def finish(self) -> None:
        """Publish that this process has nothing left to do, so that its end is no failure."""
        self.status_board.update(activity=FINISHED)

    @contextmanager
    def fail_together(self) -> Iterator[None]:
        """A context in which an error that ends this process ends the others too, with a message that names it.

        It may be entered again inside: an error is published by the innermost one.
        """
        with ExitStack() as stack:
            stack.enter_context(self.ended_by_signals())
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
            self.status_board.fail(self._account(error), reported=not expected)
        except RuntimeError as gone:
            log.debug("The status board is gone: %s", gone)
        self.close()

    def ended_by_signals(self) -> AbstractContextManager[None]:
        """A context in which SIGTERM, which launchers send the others when one process dies, is an error.

        Once a process has failed signals are ignored: it is about to end by itself, after saving what there is.
        """

        def stop(found: signal.Signals) -> None:
            if not self.is_over:
                raise self.lost(f"got {found.name}")

        return on_ending(stop, replace=True)

    def lost(self, otherwise: str, exchange: int | None = None, late: str | None = None) -> LostProcessError:
        """The error for this process when another one is to blame.

        To blame is, in this order, the one that failed first, those that ended, those that never joined, those that
        missed an `exchange`. otherwise: what happened to this process, where none is found. late: what those that
        missed the exchange did, where time has run out.
        """
        try:
            return self._blamed(otherwise, exchange, late)
        except LostProcessError as error:  # SIGTERM came meanwhile, and its handler has found the one to blame
            return error
        except RuntimeError as error:
            return LostProcessError(f"The process that the others meet at is gone ({error}).")

    def _blamed(self, otherwise: str, exchange: int | None, late: str | None) -> LostProcessError:
        self._watch_others()
        end = time.monotonic() + (NEWS if late is None else 0)
        first, others, ended = self._news()
        while not (first or ended) and time.monotonic() < end:
            time.sleep(PAUSE)
            first, others, ended = self._news()
        if first is not None and first.failed:
            return LostProcessError(first.failed, reported=first.reported, first_has_ended=0 in ended)
        absent = [rank for rank, status in others.items() if status.pid is None]
        missed = {r: status for r, status in others.items() if exchange is not None and status.exchanges < exchange}
        culprits = ended or dict.fromkeys(absent, late or "has not joined") or dict.fromkeys(missed, late or UNKNOWN)
        if culprits:
            listed = "; ".join(f"{self._during(r, others[r])}: it {how}" for r, how in culprits.items())
            return LostProcessError(listed, first_has_ended=0 in ended)
        listed = "; ".join(self._during(rank, status) for rank, status in others.items())
        return LostProcessError(f"{self._during(self.rank, self.status_board.mine)}: it {otherwise}. {listed}")

    def _news(self) -> tuple[Status | None, dict[int, Status], dict[int, str]]:
        """The process that failed first, all other processes, and how those of them that ended did so."""
        others = {rank: self.status_board.status(rank) for rank in range(self.size) if rank != self.rank}
        ended = {rank: each.ending for rank, each in others.items() if each.ending and each.activity != FINISHED}
        return self.status_board.first_failed(), others, ended

    def _await(self, ranks: Sequence[int], timeout: float) -> None:
        """Return once all of `ranks` have joined; a signal can end the wait, which it cannot within gloo.

        Raises `LostProcessError` where one fails or does not come in time.
        """
        end, board = time.monotonic() + timeout, self.status_board
        while any(board.status(rank).pid is None for rank in ranks):
            if board.first_failed() or time.monotonic() > end:
                raise self.lost("is alone", late=f"has not joined in {timeout:g} s")
            time.sleep(PAUSE)
        self._watch_others()

    def _watch_others(self) -> None:
        """Watch the processes of this machine that have joined since the last call."""
        board = self.status_board
        new = {rank: board.status(rank) for rank in range(self.size) if rank not in {self.rank, *self._watched}}
        here = {rank: each.pid for rank, each in new.items() if each.pid and each.machine == board.mine.machine}
        if here:
            self._watched |= set(here)
            self._watches.append(EndingWatch(here, self._publish_ending))

    def _publish_ending(self, rank: int, ending: str) -> None:
        try:
            self.status_board.publish_ending(rank, ending)
        except RuntimeError as error:
            log.debug("The status board is gone: %s", error)

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
            while lower := self._lower_that_may_report():
                if self.status_board.any_failed(lower):
                    return False
                if time.monotonic() > end:
                    break
                time.sleep(PAUSE)
            self.status_board.update(reported=True)
        except RuntimeError:
            log.debug("The status board is gone, so this process reports %s", error)
        return True

    def _lower_that_may_report(self) -> list[int]:
        """The processes of lower rank that have not ended."""
        return [rank for rank in range(self.rank) if self.status_board.status(rank).ending is None]


def _connected(store: Store, rank: int, size: int, timeout: float) -> Any:
    """A process group of gloo, which torch does not know of: its registry has only the program's own."""
    return ProcessGroupGloo(store, rank, size, timedelta(seconds=timeout))


_worlds: list[World] = []
"""The one in use is the last; after a failure another one follows, with a status board of its own."""


def world(device: str | None = None) -> World:
    """The processes of this launch. After a failure of one of them they are all connected anew.

    device: where to run, see `placement.chosen`.
    """
    if _worlds and not _is_over(_worlds[-1]):
        return _worlds[-1]
    store, rank, size = _launch()
    for number in count(len(_worlds)):
        here = World(rank, size, chosen(device), StatusBoard(rank, part(store, PREFIX, number)))
        atexit.register(here.close)
        _worlds.append(here)
        if not _is_over(here):  # the others may have failed there without this one
            break
    return _worlds[-1]


def _is_over(here: World) -> bool:
    """Whether one of the processes has failed; what is left is closed then."""
    try:
        over = here.is_over or here.status_board.any_failed(range(here.size))
    except RuntimeError:  # the store is gone: the next exchange names that
        return here.is_over
    if over:
        here.is_over = True
        here.close()
        atexit.unregister(here.close)
    return over


@cache
def _launch() -> tuple[Store, int, int]:
    """The store that all processes of the launch reach, this one's rank, and their number."""
    try:
        store, rank, size = next(rendezvous("env://", timeout=CONNECT))
    except ValueError as error:
        raise InputError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but there is no launcher ({error}). Start the processes with "
            "torchrun, or unset WORLD_SIZE for one process."
        ) from error
    return store, rank, size
