"""The reward worker imports no pipelines, and ends with the process that started it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamt1_plugins.config.rewards import Place
from streamt1_plugins.errors import UnreachableError
from streamt1_plugins.evaluation.remote.client import RemoteReward
from tests.evaluation.remote.serving import example

WORKER = """
import sys, threading, time
from streamt1_basic.rewards import Flicker
from streamt1_plugins.cli.reward_worker import _exit, main
def hang(*_):
    print("hangs", flush=True)
    time.sleep(10**6)
{change}
_exit(main())
"""


def started(change: str, port: Path) -> subprocess.Popen[bytes]:
    """A worker for `flicker`, in which `change` was made to the reward."""
    command = [sys.executable, "-c", WORKER.format(change=change), "flicker", "--port-file", str(port)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(port: Path, process: subprocess.Popen[bytes]) -> None:
    while not port.exists() and process.poll() is None:
        time.sleep(0.05)


def end_of(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process whose parent goes away."""
    assert process.stdin is not None
    process.stdin.close()
    return process.wait(60)


def test_a_reward_that_does_not_return_ends_with_its_parent(tmp_path: Path) -> None:
    port = tmp_path / "port.txt"
    with started("Flicker.score = hang", port) as process:
        wait_for(port, process)
        made = RemoteReward("flicker", Place(url=port.read_text(encoding="utf-8"), timeout=2), {})
        made.load("cpu")
        with pytest.raises(UnreachableError, match="no answer"):
            made.score(example())
        assert end_of(process) == 0


def test_a_reward_that_loads_for_ever_ends_with_its_parent(tmp_path: Path) -> None:
    with started("Flicker.load = hang", tmp_path / "port.txt") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hangs\n"
        assert end_of(process) == 0


def test_a_reward_that_cannot_be_freed_ends_with_its_parent(tmp_path: Path) -> None:
    port = tmp_path / "port.txt"
    with started("Flicker.unload = hang", port) as process:
        wait_for(port, process)
        assert end_of(process) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b"hangs\n"  # it was asked to free itself


def test_a_reward_that_does_not_load_leaves_no_process(tmp_path: Path) -> None:
    """Not even where it has started a thread that never ends."""
    change = "Flicker.load = lambda *_: (threading.Thread(target=hang).start(), sys.exit(0))"
    with started(change, tmp_path / "port.txt") as process:
        assert process.wait(60) == 2
        assert process.stderr is not None
        assert process.stderr.read() == b"Loading reward 'flicker' failed: SystemExit: 0\n"


def test_serving_imports_no_pipelines() -> None:
    heavy = {"diffusers", "transformers", "typer", "yaml"}
    code = f"import sys, streamt1_plugins.cli.reward_worker; print(*({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
