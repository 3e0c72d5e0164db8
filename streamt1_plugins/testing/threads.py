"""Several searches that share their candidates in one process: a thread stands for each process of a real launch."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from threading import Barrier, BrokenBarrierError, Lock, Thread
from typing import TYPE_CHECKING, TypeVar

from streamt1_plugins.search.distributed.workers import DistributedWorkers, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from streamt1_plugins.api.workers import Workers

Result = TypeVar("Result")

TIMEOUT = 300.0  # seconds; only a search that makes another number of exchanges than the others waits that long


class Meeting:
    """Where the threads exchange values. Only one of them runs at a time, so that global state is never shared."""

    def __init__(self, size: int) -> None:
        self.turn, self.barrier = Lock(), Barrier(size)
        self._values: list[bytes] = [b""] * size

    def exchange(self, rank: int, value: object) -> list[bytes]:
        """The pickled values of all threads, in order of rank."""
        self._values[rank] = pickle.dumps(value)
        self.turn.release()
        try:
            self.barrier.wait(TIMEOUT)
            found = list(self._values)
            self.barrier.wait(TIMEOUT)  # nobody's next value replaces one that is yet to be read
        finally:
            self.turn.acquire()
        return found


class ThreadWorkers(DistributedWorkers):
    """The workers of one thread: what they share and send is that of real processes."""

    def __init__(self, meeting: Meeting, rank: int, size: int) -> None:
        self.rank, self.size, self.traffic = rank, size, Traffic()
        self._meeting = meeting

    def fail_together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def set_status(self, activity: str) -> None:
        """Do nothing: a failure is raised by `together`."""

    def all_gather(self, value: Result) -> list[Result]:
        return [pickle.loads(each) for each in self._meeting.exchange(self.rank, value)]


def together(works: Sequence[Callable[[Workers], Result]]) -> list[Result]:
    """What each work returns, run as one of the workers of a search; the first error of any is raised."""
    meeting, results, errors = Meeting(len(works)), {}, []

    def run(rank: int) -> None:
        with meeting.turn:
            try:
                results[rank] = works[rank](ThreadWorkers(meeting, rank, len(works)))
            except BrokenBarrierError as error:
                errors.append(error)  # another one failed, or ended after fewer exchanges
            except BaseException as error:  # noqa: BLE001  raised again below, in the thread of the caller
                errors.insert(0, error)
                meeting.barrier.abort()

    threads = [Thread(target=run, args=(rank,)) for rank in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[rank] for rank in range(len(works))]
