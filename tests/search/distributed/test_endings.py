"""Processes of this machine are seen to end, with the code or signal, before their parent has read it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from queue import Queue

import pytest

from streamt1_plugins.search.distributed.endings import UNKNOWN, EndingWatch, ending, machine

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="handles of processes are Linux's")

KILLED = "was killed by SIGKILL, as the system does when memory runs out"


def started() -> subprocess.Popen[bytes]:
    """A process that waits; its end is read by nobody until the test does."""
    return subprocess.Popen([sys.executable, "-S", "-c", "input(); raise SystemExit(7)"], stdin=subprocess.PIPE)


def test_each_ending_is_reported_once_with_its_code_or_signal() -> None:
    seen: Queue[tuple[int, str]] = Queue()
    first, second = started(), started()
    watch = EndingWatch({1: first.pid, 2: second.pid}, lambda rank, how: seen.put((rank, how)))
    first.kill()
    assert seen.get(timeout=60) == (1, KILLED)
    assert second.stdin is not None
    second.stdin.write(b"go\n")
    second.stdin.close()
    assert seen.get(timeout=60) == (2, "ended with exit code 7")
    watch.stop()
    assert seen.empty()
    first.wait()
    second.wait()
    assert ending(first.pid) == UNKNOWN, "its parent has read it"


def test_a_process_that_is_gone_already_is_reported_at_once() -> None:
    gone = started()
    gone.kill()
    gone.wait()
    seen: list[tuple[int, str]] = []
    EndingWatch({3: gone.pid}, lambda rank, how: seen.append((rank, how))).stop()
    assert seen == [(3, UNKNOWN)]


def test_a_watch_leaves_no_thread_and_no_file_open() -> None:
    process = started()
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")))
    watch = EndingWatch({1: process.pid}, lambda *_: None)
    watch.stop()
    watch.stop()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
    process.kill()
    process.communicate()


def test_a_machine_has_one_name() -> None:
    assert machine() == machine() != ""
    assert signal.Signals.SIGKILL.name in KILLED
