"""How many CPU threads a run works with: no more than its model gains from, and afterwards as many as before.

A tiny model that is shared among threads takes many times as long on a busy machine, because the threads wait for each
other far longer than they work.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from threadpoolctl import ThreadpoolController

from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
    """The limits that hold now. Runs in several Python threads share the libraries' threads: the smallest limit holds
    for all of them, and the last run to end gives back what was there before the first.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._before: dict[str, int] = {}
        self._counts: list[int] = []

    @property
    def smallest(self) -> int | None:
        return min(self._counts, default=None)

    def enter(self, count: int) -> None:
        with self._lock:
            pools = _pools()
            if not self._counts:
                self._before = {pool.name: pool.read() for pool in pools}
            self._counts.append(count)
            self._apply(pools)

    def leave(self, count: int) -> None:
        with self._lock:
            self._counts.remove(count)
            self._apply(_pools())

    def _apply(self, pools: Iterable[_Pool]) -> None:
        for pool in pools:
            wanted = self.smallest or self._before.get(pool.name)
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
        _limits.leave(count)


def environment() -> dict[str, str]:
    """What a process that is started now needs in its environment to work with as many threads."""
    return {} if _limits.smallest is None else {THREADS: str(_limits.smallest)}
