"""`streamt1 serve-reward`: options, the same scores as at home, and Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.config.rewards import Place
from streamt1_plugins.evaluation.remote.client import RemoteReward
from tests.toy import ToyPipeline


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


def test_scores_of_another_process_are_the_same_to_the_last_bit(command: tuple[subprocess.Popen[str], str]) -> None:
    here = {"drift": {"options": {"half": 0.1}}}
    there = {"drift": {"where": command[1]}}
    trees = []
    for rewards in (here, there):
        pipe = streamt1.wrap(ToyPipeline(), {"extends": "stream-t1", "rewards": {"long": rewards}})
        pipe("a prompt")
        trees.append([(node.id, node.score, node.fate) for node in pipe.tree])
    assert trees[0] == trees[1]


@pytest.mark.parametrize(
    ("option", "message"),
    [("half", "not of the form name=value"), ("half=[", "is not YAML"), ("halves=1", "has no option 'halves'")],
)
def test_a_wrong_option_of_the_command_is_an_error(option: str, message: str) -> None:
    start = [sys.executable, "-m", "streamt1_plugins", "serve-reward", "drift", "--port", "0", "-o", option]
    result = subprocess.run(start, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert message in result.stderr


def test_ctrl_c_ends_the_command(command: tuple[subprocess.Popen[str], str]) -> None:
    process, url = command
    made = RemoteReward("drift", Place(url=url), {})
    made.load("cpu")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
