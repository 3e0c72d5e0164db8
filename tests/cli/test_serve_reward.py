"""`streamt1 serve-reward`: options, the same scores as at home, and Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.config.rewards import Place
from streamt1_plugins.evaluation.remote.client import RemoteReward
from tests.evaluation.remote.serving import example
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


SLOW = """
import time
from dataclasses import dataclass
from streamt1_plugins import Reward, RewardOutput, hookimpl
import torch

@dataclass
class Slow(Reward):
    def score(self, inp):
        print("scores", flush=True)
        time.sleep(1)
        return RewardOutput(torch.ones(len(inp.prompts)))

@hookimpl
def streamt1_register_rewards(register):
    register("slow", target=Slow)
"""


def test_sigterm_finishes_the_request_in_progress(tmp_path: Path) -> None:
    (tmp_path / "slow_reward.py").write_text(SLOW, encoding="utf-8")
    start = [sys.executable, "-m", "streamt1_plugins", "--plugin", str(tmp_path / "slow_reward.py"), "serve-reward"]
    start += ["slow", "--host", "localhost", "--port", "0", "--device", "cpu", "--allow-host", "judge.lan"]
    with subprocess.Popen(start, stdout=subprocess.PIPE, text=True) as process, ThreadPoolExecutor(1) as threads:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        named = httpx.get(f"{url}/health", headers={"Host": "judge.lan"}, trust_env=False)
        assert named.status_code == 200
        made = RemoteReward("slow", Place(url=url), {})
        made.load("cpu")
        score = threads.submit(made.score, example())
        assert process.stdout.readline() == "scores\n"
        process.terminate()
        assert score.result(60).scores.unique().tolist() == [1.0]
        assert process.wait(60) == 143
