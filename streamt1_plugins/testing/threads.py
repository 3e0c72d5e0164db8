"""Several searches that share their candidates in one process: a thread stands for each process of a real launch."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import Condition
from typing import TYPE_CHECKING, TypeVar

from streamt1_plugins.search.distributed.workers import DistributedWorkers, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from streamt1_plugins.api.workers import Workers

Result = TypeVar("Result")


class AbsentError(RuntimeError):
    """Another thread has ended, so it does not take part in an exchange."""


class Meeting:
    """Where the threads exchange values. Only one of them runs at a time, so that no global state is shared."""

    def __init__(self, size: int) -> None:
        self.turn, self.has_ended = Condition(), False
        self._rounds: list[dict[int, bytes]] = []
        self._reached = [0] * size

    def exchange(self, rank: int, value: object) -> list[bytes]:
        """The pickled values of all threads, in order of rank. Raises `AbsentError` where one has ended."""
        number = self._reached[rank]
        self._reached[rank] += 1
        if number == len(self._rounds):
            self._rounds.append({})
        here = self._rounds[number]
        here[rank] = pickle.dumps(value)
        self.turn.notify_all()
        self.turn.wait_for(lambda: len(here) == len(self._reached) or self.has_ended)
        if len(here) < len(self._reached):
            raise AbsentError(f"Exchange {number} is not reached by all: another thread has ended.")
        return [here[each] for each in range(len(self._reached))]

    def end(self) -> None:
        """Wake up the threads that wait for this one."""
        self.has_ended = True
        self.turn.notify_all()


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
    meeting = Meeting(len(works))

    def run(rank: int) -> Result:
        with meeting.turn:
            try:
                return works[rank](ThreadWorkers(meeting, rank, len(works)))
            finally:
                meeting.end()

    with ThreadPoolExecutor(len(works)) as threads:
        made = [threads.submit(run, rank) for rank in range(len(works))]
    errors = [error for each in made if (error := each.exception()) is not None]
    if errors:
        raise min(errors, key=lambda error: isinstance(error, AbsentError))
    return [each.result() for each in made]
