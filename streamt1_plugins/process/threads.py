"""How many CPU threads a run works with: no more than its model gains from, and afterwards as many as before.

A tiny model that is shared among threads takes many times as long on a busy machine, because the threads wait for each
other far longer than they work.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, local
from typing import TYPE_CHECKING, TypeVar

from threadpoolctl import ThreadpoolController

from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")

THREADS = "STREAMT1_THREADS"
"""The environment variable with a number of threads, which `--threads` sets; processes that this one starts have it."""


def chosen(recorded: int | None = None, declared: int | None = None) -> int | None:
    """The threads of a run; None leaves them as they are.

    The number in the environment, else the one `recorded` in the recipe; else what the adapter has `declared`, and no
    more than this process's share of the machine where a launcher started several. Raises `InputError` for what is no
    number in the environment.
    """
    number = given() or recorded
    return number or min((each for each in (declared, _share()) if each is not None), default=None)


def given() -> int | None:
    """The number in the environment, None where there is none. Raises `InputError` for what is no number."""
    text = os.environ.get(THREADS, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise InputError(f"{THREADS}={text!r} is no number of threads: expected 1 or more.")
    return int(text)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _share() -> int | None:
    """This process's share of the cores, None where no launcher started others beside it."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, cores() // beside) if beside > 1 else None


@dataclass(frozen=True)
class _Pool:
    """The threads of one library."""

    name: str
    read: Callable[[], int]
    write: Callable[[int], object]


def _pools() -> list[_Pool]:
    """Those of torch, of the BLAS libraries (numpy has one of its own) and of OpenCV, where they are loaded."""
    found = [
        _Pool(str(each.filepath), each.get_num_threads, each.set_num_threads)
        for each in ThreadpoolController().select(user_api="blas").lib_controllers
    ]
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        found.append(_Pool("torch", torch.get_num_threads, torch.set_num_threads))
    if hasattr(sys.modules.get("cv2"), "setNumThreads"):
        cv2 = sys.modules["cv2"]
        found.append(_Pool("cv2", cv2.getNumThreads, cv2.setNumThreads))
    return found


class _Limits:
    """The limits that hold now.

    Torch has a number per Python thread, and new threads take the one that was set last. So each thread puts its own
    back, and what it puts back is what was there before any run began, not the limit of a run beside it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._before: dict[str, int] = {}
        self._count = 0
        self._own = local()

    @property
    def stack(self) -> list[int]:
        """The limits of this Python thread, the innermost one last."""
        found: list[int] = vars(self._own).setdefault("stack", [])
        return found

    def enter(self, count: int) -> None:
        with self._lock:
            pools = _pools()
            if not self._count:
                self._before = {pool.name: pool.read() for pool in pools}
            self._count += 1
            self.stack.append(count)
            for pool in pools:
                pool.write(count)

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            self.stack.pop()
            for pool in _pools():
                wanted = self.stack[-1] if self.stack else self._before.get(pool.name)
                if wanted is not None:
                    pool.write(wanted)


_limits = _Limits()


@contextmanager
def limited(count: int | None) -> Iterator[None]:
    """Work with `count` threads inside, and give back what was there, also after an error. None changes nothing."""
    if count is None:
        yield
        return
    _limits.enter(count)
    try:
        yield
    finally:
        _limits.leave()


def stepwise(steps: Generator[T, None, None], count: int | None) -> Generator[T, None, None]:
    """The same steps, each made with `count` threads; the caller's code between two of them has its own."""
    try:
        while True:
            with limited(count):
                try:
                    made = next(steps)
                except StopIteration:
                    return
            yield made
    finally:
        with limited(count):
            steps.close()


def environment() -> dict[str, str]:
    """What a process that is started now needs in its environment to work with as many threads."""
    return {THREADS: str(_limits.stack[-1])} if _limits.stack else {}
