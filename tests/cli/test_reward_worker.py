"""The reward worker imports no pipelines, and ends with the process that started it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamt1_plugins.config.rewards import Place
from streamt1_plugins.errors import UnreachableError
from streamt1_plugins.evaluation.remote.client import RemoteReward
from tests.evaluation.remote.serving import example

HANGING = """
import sys, threading
from streamt1_basic.rewards import Flicker
from streamt1_plugins.cli.reward_worker import main
Flicker.score = lambda self, inp: threading.Event().wait()
sys.exit(main())
"""


def test_a_reward_that_does_not_return_ends_with_its_parent(tmp_path: Path) -> None:
    port = tmp_path / "port.txt"
    command = [sys.executable, "-c", HANGING, "flicker", "--port-file", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        while not port.exists() and process.poll() is None:
            time.sleep(0.05)
        made = RemoteReward("flicker", Place(url=port.read_text(encoding="utf-8"), timeout=2), {})
        made.load("cpu")
        with pytest.raises(UnreachableError, match="no answer"):
            made.score(example())
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


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


def test_serving_imports_no_pipelines() -> None:
    heavy = {"diffusers", "transformers", "typer", "yaml"}
    code = f"import sys, streamt1_plugins.cli.reward_worker; print(*({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
