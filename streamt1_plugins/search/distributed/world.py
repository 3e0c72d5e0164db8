"""The processes a launcher started: how many, which one this is, and how they end together.

What they send each other goes over gloo, whatever the device: it is small, a process that is gone or late raises an
error here instead of hanging a GPU, and two processes may share one card.
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
from streamt1_plugins.search.distributed.status_board import Board, Word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType, TracebackType

log = logging.getLogger("streamt1")

GRACE = 3.0  # seconds a process that failed waits for a lower one to tell the user


class LostProcessError(StreamT1Error, RuntimeError):
    """Another process of the run failed, ended or does not answer. `told`: it has told the user itself."""

    def __init__(self, message: str, *, told: bool = False) -> None:
        super().__init__(message)
        self.told = told


@dataclass
class World:
    """All processes of a launch, seen from number `rank`. `device`: where this one should put its model."""

    rank: int
    size: int
    device: str
    board: Board
    is_over: bool = field(default=False, repr=False)
    _groups: list[dist.ProcessGroup] = field(default_factory=list, repr=False)

    def connect(self, ranks: Sequence[int], timeout: float) -> int:
        """Connect these processes and give the connection's number; all processes of the world have to call it.

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
        process, so nobody else keeps one.
        """
        self._groups.clear()
        if dist.is_initialized():
            dist.destroy_process_group()

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Whatever ends this process inside, the others learn, and end too."""
        with ExitStack() as stack:
            stack.enter_context(self._told_to_stop())
            stack.push(self._left)
            yield

    def _left(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave word of an error, then close the connections: whoever waits for this process wakes up and reads it."""
        if error is None or self.is_over:
            return
        self.is_over = True
        expected = isinstance(error, StreamT1Error) or not isinstance(error, Exception)
        if not expected:  # nobody catches it, so nobody would say where it happened
            log.error("%s: %s: %s", self._doing(self.rank, self.board.mine), type(error).__name__, error)
        try:
            self.board.say(failed=self._account(error), told=not expected)
        except RuntimeError as gone:
            log.debug("Nobody is left to be told: %s", gone)
        self.close()

    @contextmanager
    def _told_to_stop(self) -> Iterator[None]:
        """Launchers end the others with SIGTERM when one process dies: an error then, so that the run is kept."""

        def stop(number: int, frame: FrameType | None) -> None:
            if not self.is_over:  # else it is about to end by itself, after saving what there is
                raise self.lost("was told to stop, as when another process has died")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN if self.is_over else before)

    def lost(self, otherwise: str, meeting: int | None = None, cause: str = "has ended") -> LostProcessError:
        """The error for this process when another is to blame: one that said why, or that missed a `meeting`.

        otherwise: what to say of this process where no culprit is found. cause: what became of those who missed it.
        """
        try:
            words = {rank: self.board.word(rank) for rank in range(self.size) if rank != self.rank}
        except RuntimeError as error:
            return LostProcessError(f"The process that others meet at is gone ({error}).")
        for word in words.values():
            if word.failed:
                return LostProcessError(word.failed, told=word.told)
        late = {rank: word for rank, word in words.items() if meeting is not None and word.meetings < meeting}
        if late:
            return LostProcessError("; ".join(f"{self._doing(rank, word)}: it {cause}" for rank, word in late.items()))
        others = "; ".join(self._doing(rank, word) for rank, word in words.items())
        return LostProcessError(f"{self._doing(self.rank, self.board.mine)}: it {otherwise}. {others}")

    def placed(self, error: StreamT1Error) -> StreamT1Error:
        """`error`, with what this process was at where that adds something."""
        if isinstance(error, LostProcessError) or self.board.mine.at == Word.at:
            return error
        return LostProcessError(f"{self._doing(self.rank, self.board.mine)}: {error}", told=True)

    def _account(self, error: BaseException) -> str:
        """What this process says of its end: in the words of whoever tells the user, they are the same."""
        if isinstance(error, LostProcessError):  # says already which process was at what
            return str(error)
        kind = "" if isinstance(error, StreamT1Error) else type(error).__name__
        return f"{self._doing(self.rank, self.board.mine)}: " + ": ".join(filter(None, (kind, str(error))))

    def _doing(self, rank: int, word: Word) -> str:
        return f"Process {rank} of {self.size} while {word.at}"

    def tells(self, error: BaseException) -> bool:
        """Whether this process is the one to tell the user of `error`: the first of those that can."""
        if isinstance(error, LostProcessError) and error.told:
            return False
        end = time.monotonic() + GRACE
        try:
            while self.rank and not self.board.failed(range(self.rank)):
                if time.monotonic() > end:
                    break
                time.sleep(0.05)
            else:
                if self.rank:
                    return False
            self.board.say(told=True)
        except RuntimeError:
            log.debug("Nobody is left to ask who tells the user of %s", error)
        return True


@cache
def world(device: str | None = None) -> World:
    """The processes of this launch; they find each other on the first call, which all have to make.

    device: where to run, by default the GPU of this process's number on its machine, or the CPU where there is none.
    """
    state = PartialState(cpu=device is not None or not torch.cuda.is_available())
    where = device or ("cpu" if state.device.type == "cpu" else str(state.device))
    here = World(state.process_index, state.num_processes, where, Board(state.process_index))
    atexit.register(here.close)
    return here
