"""Rewards in interpreters of their own: they end with their parent, and runs survive their death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_basic.rewards import Flicker
from streamt1_plugins.config.rewards import Place
from streamt1_plugins.errors import UnreachableError
from streamt1_plugins.evaluation.remote.client import RemoteReward
from streamt1_plugins.evaluation.remote.process import last_lines
from tests.evaluation.remote.serving import example
from tests.toy import ToyPipeline


def test_an_interpreter_that_cannot_start_is_an_error() -> None:
    made = RemoteReward("flicker", Place(python="no-such-python"), {})
    with pytest.raises(UnreachableError, match="no-such-python cannot be started"):
        made.load("cpu")


def test_the_last_output_of_an_interpreter_is_in_the_error() -> None:
    made = RemoteReward("flicker", Place(python=sys.executable), {"halves": 1})
    with pytest.raises(UnreachableError, match=r"ended with code 2\. Its last output: .*has no option 'halves'"):
        made.load("cpu")


def test_of_a_long_output_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with log.open("wb") as file:
        file.truncate(10**12)
    with log.open("ab") as file:
        file.write(b"\n\xffone\n two \x1b[2J\n")
    assert last_lines(log).endswith(r" | \ufffdone | two \x1b[2J".replace("\\ufffd", "\ufffd"))
    (tmp_path / "empty.txt").touch()
    assert last_lines(tmp_path / "empty.txt") == "none"


def test_an_interpreter_that_takes_too_long_is_ended() -> None:
    made = RemoteReward("flicker", Place(python=sys.executable, start_timeout=0.05), {})
    with pytest.raises(UnreachableError, match=r"was not ready in 0\.05 s"):
        made.load("cpu")


def test_a_process_ends_with_its_reward_and_starts_again() -> None:
    made = RemoteReward("flicker", Place(python=sys.executable), {"half": 0.3})
    made.load("cpu")
    assert made.process is not None
    first = made.process.popen
    inp = example()
    assert torch.equal(made.score(inp).scores, Flicker(0.3).score(inp).scores)
    made.unload()
    assert first.poll() == 0
    made.unload()


def test_a_process_does_not_outlive_the_one_that_started_it() -> None:
    code = (
        "import sys; from streamt1_plugins.evaluation.remote.client import RemoteReward\n"
        "from streamt1_plugins.config.rewards import Place\n"
        "made = RemoteReward('flicker', Place(python=sys.executable), {}); made.load('cpu')\n"
        "import os; print(made.process.popen.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout
    assert gone(int(printed)), "the server still runs"


def gone(process: int) -> bool:
    for _ in range(100):
        status = Path(f"/proc/{process}/stat")
        if not status.exists() or status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def command() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`streamt1 serve-reward drift` as a user starts it, and its address."""
    start = [sys.executable, "-m", "streamt1_plugins", "serve-reward", "drift", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen([*start, "-o", "half=0.1"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Serving 'drift' at http://127.0.0.1:"), line
    yield process, line.split()[3]
    process.kill()
    process.wait()


def test_a_run_survives_the_death_of_both_and_notes_it(command: tuple[subprocess.Popen[str], str]) -> None:
    process, url = command
    rewards = {
        "short": {
            "bright": {},
            "flicker": {"where": {"python": sys.executable}, "on_error": "skip", "unload": True},
            "drift": {"where": {"url": url, "retries": 0}, "on_error": "skip"},
        },
        "long": {"bright": {}},
    }
    pipe = streamt1.wrap(ToyPipeline(), {"extends": "stream-t1", "rewards": rewards})
    started = {}

    def kill(_: Any, index: int, __: Any) -> dict[str, Any]:
        client = next(b.reward for b in pipe.search(pipe.last_run).evaluator.pool.bound if b.name == "flicker")
        started[index] = client.process.popen.pid if client.process else None
        if index == 0:
            os.kill(started[0], signal.SIGKILL)
        if index == 1:
            process.kill()
            process.wait()
        return {}

    pipe("a prompt", on_chunk_end=kill)
    measured = [set(pipe.tree.chunk(index)[0].readings["short"]) for index in range(4)]
    assert measured == [
        {"bright", "flicker", "drift"},
        {"bright", "drift"},
        {"bright", "flicker"},
        {"bright", "flicker"},
    ]
    assert all(node.is_valid for node in pipe.tree)
    first, second = pipe.tree.notes
    assert first == (
        "Reward 'flicker' failed and was left out where it did, first in chunk 1: Reward 'flicker': its process died."
    )
    assert second.startswith("Reward 'drift' failed and was left out where it did, first in chunk 2: ")
    assert f"{url} cannot be reached (ConnectError" in second
    assert started[0] != started[3]
    assert gone(started[3]), "unload: true ends the process with the run"
