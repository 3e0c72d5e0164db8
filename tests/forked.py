"""Processes of one launch, forked from this one: cheap, because everything is imported already."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from torch.distributed import TCPStore

NOTICED = 0.1
"""Seconds after which a launcher ends the others with SIGTERM when one process has died."""


@contextlib.contextmanager
def launched(count: int, work: Callable[[int], None], output: Path) -> Iterator[list[int]]:
    """The pids of `count` processes that do ``work(rank)`` under the conditions of torchrun; all have ended then.

    What each prints goes to ``output/RANK.txt``.
    """
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    given = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port)}
    given |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    pids = [_forked(lambda rank=rank: work(rank), given | {"RANK": str(rank)}, output / f"{rank}.txt")
            for rank in range(count)]  # fmt: skip
    try:
        yield pids
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _forked(work: Callable[[], None], environment: dict[str, str], output: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
        os.environ.update(environment)
        work()
        code = 0
    finally:
        error = sys.exc_info()[1]
        if isinstance(error, SystemExit):
            code = int(error.code or 0)
        elif error is not None:
            traceback.print_exc()
        os._exit(code)


def end_as_a_launcher_does(pids: list[int], timeout: float = 120) -> list[int]:
    """Wait for all; when the first one fails, end the others with SIGTERM. Returns their exit codes, negative signals.

    Raises `TimeoutError` where a process does not end.
    """
    codes: dict[int, int] = {}
    end = time.monotonic() + timeout
    while len(codes) < len(pids):
        for pid in (pid for pid in pids if pid not in codes):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                codes[pid] = os.waitstatus_to_exitcode(status)
                if codes[pid]:
                    time.sleep(NOTICED)
                    for other in (pid for pid in pids if pid not in codes):
                        os.kill(other, signal.SIGTERM)
        if time.monotonic() > end:
            raise TimeoutError(f"{len(pids) - len(codes)} processes do not end.")
        time.sleep(0.02)
    return [codes[pid] for pid in pids]
