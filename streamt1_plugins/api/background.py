"""Work of a run that nothing waits for, such as drawing pictures: done beside the search, in one thread."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from threading import Condition, Thread, current_thread
from typing import TYPE_CHECKING

from streamt1_plugins.errors import StreamT1Error, foreign_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST = 16
"""How many jobs may wait; each can hold the frames of a candidate."""


@dataclass(order=True)
class _Job:
    """A job in the queue: urgent ones first, the others in the order they were submitted."""

    rank: int
    number: int
    what: str = field(compare=False)
    work: Callable[[], None] = field(compare=False)


class Background:
    """Does the jobs of one run one after the other, in a thread that lives only while there are any.

    What a job reads must not change afterwards. A job that fails is raised by the next `check`, as a `PluginError` that
    names it; its own error is the cause. Jobs that are left when the program ends are done first.
    """

    def __init__(self, most: int = MOST) -> None:
        """`most`: how many jobs may wait before `submit` waits too."""
        self._most = most
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._changed = Condition()
        self._jobs: list[_Job] = []
        self._numbers: Iterator[int] = count()
        self._thread: Thread | None = None
        self._errors: list[StreamT1Error] = []

    def submit(self, what: str, work: Callable[[], None], *, urgent: bool = False) -> None:
        """Have `work` done soon; `what`, as in "Drawing a strip", starts the message where it fails.

        `urgent` jobs come before all others, in their own order. Waits while the queue is full.
        """
        self._leave_parent()
        if current_thread() is self._thread:  # a job's own job, for which the queue may have no room
            self._do(_Job(0, 0, what, work))
            return
        self._begin()  # an interruption may have come between a job and its thread
        with self._changed:
            self._changed.wait_for(lambda: len(self._jobs) < self._most)
            heappush(self._jobs, _Job(int(not urgent), next(self._numbers), what, work))
        self._begin()

    def check(self) -> None:
        """Raise the error of a job that failed, once; the first one where several did."""
        self._leave_parent()
        with self._changed:
            error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error

    def wait(self) -> None:
        """Wait until all jobs are done; nothing is raised where one failed."""
        self._leave_parent()
        if current_thread() is not self._thread:
            self._begin()
            with self._changed:
                self._changed.wait_for(lambda: self._thread is None and not self._jobs)

    def drain(self) -> None:
        """Wait until all jobs are done, and raise as `check` does."""
        self.wait()
        self.check()

    def _begin(self) -> None:
        """Start the thread where there are jobs and none. Where the system has no more of them, do the jobs here."""
        with self._changed:
            if not self._jobs or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = Thread(target=self._work, name="streamt1-background")
            try:
                self._thread.start()
                return
            except RuntimeError:  # also where the program is ending
                self._thread = None
        self._work()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._thread = None
                    self._changed.notify_all()
                    return
                job = heappop(self._jobs)
                self._changed.notify_all()
            self._do(job)
            del job  # with its tensors

    def _do(self, job: _Job) -> None:
        try:
            with foreign_code(job.what):
                job.work()
        except StreamT1Error as error:  # anything else became one
            with self._changed:
                self._errors.append(error)

    def _leave_parent(self) -> None:
        """In a forked process: the jobs, the thread and the lock are its parent's."""
        if self._process != os.getpid():
            self._reset()
