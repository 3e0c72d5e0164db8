"""Whatever ends one process, and whatever the others do then: their message names the right one, and how it ended."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import streamt1_plugins as streamt1
from streamt1_plugins.cli import main as cli
from streamt1_plugins.errors import StreamT1Error
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.search.distributed import world as worlds
from tests.forked import end_as_a_launcher_does, launched
from tests.toy import Bright, ToyPipeline

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="forks, and reads how processes ended on Linux")

TIMEOUT = 6
WAYS = {
    "generate": "while generating candidate 001.0[01]: RuntimeError: the pipeline broke",
    "reward": "evaluating candidate 001.0[01], 001.0[23] with reward 'bright': Reward 'bright' failed: OSError: no",
    "exit": "with reward 'bright': it (ended with exit code 7|has ended)",
    "kill": "with reward 'bright': it (was killed by SIGKILL, as the system does when memory runs out|has ended)",
    "stall": f"with reward 'bright': it did not answer for {TIMEOUT} s",
    "absent": "while starting: it has not joined",
}


@dataclass
class Deadly(Bright):
    """Ends its process, or does not return, in the second chunk."""

    how: str = ""

    def score(self, inp: Any) -> Any:
        if inp.chunk == 1:
            {"exit": lambda: os._exit(7), "kill": self._kill, "reward": self._fail, "stall": self._stall}[self.how]()
        return super().score(inp)

    def _kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _fail(self) -> None:
        raise OSError("no")

    def _stall(self) -> None:
        time.sleep(600)


@dataclass
class Slow(Bright):
    """Works on, so that SIGTERM arrives first, or waits for the other process at once."""

    busy: bool = False

    def score(self, inp: Any) -> Any:
        if self.busy and inp.chunk == 1:
            time.sleep(600)
        return super().score(inp)


def search(rank: int, victim: int, how: str, busy: bool) -> None:
    """One process of two: the `victim` meets its end, the other one prints the error that it gets."""
    if rank == victim and how == "absent":
        await_the_other(1 - rank)
        os._exit(3)
    reward = Deadly(how=how) if rank == victim and how != "generate" else Slow(busy=busy)
    overrides = ["parallel.candidates=2", f"parallel.timeout={TIMEOUT if how == 'stall' else 60}"]
    overrides += ["rewards={replace: true, short: {bright: {on_error: raise}}}"]
    pipe = streamt1.wrap(ToyPipeline(), overrides=overrides, rewards={"bright": reward})
    try:
        pipe("a prompt", **({"fail_at": 1} if rank == victim and how == "generate" else {}))
    except StreamT1Error as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        raise SystemExit(1) from error


def await_the_other(rank: int) -> None:
    """Returns when it waits for this one, which does not join."""
    board = worlds.part(worlds._launch()[0], worlds.PREFIX, 0)
    while not board.check([str(rank)]) or not json.loads(board.get(str(rank)))["exchanges"]:
        time.sleep(0.02)


@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "working"])
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("how", WAYS)
def test_the_survivor_names_the_process_that_died_and_how(how: str, victim: int, busy: bool, tmp_path: Path) -> None:
    if busy and how in ("stall", "absent"):
        pytest.skip("the other one waits")
    with launched(2, lambda rank: search(rank, victim, how, busy), tmp_path) as pids:
        if how == "stall":
            os.waitpid(pids[1 - victim], 0)
        else:
            end_as_a_launcher_does(pids)
    told = (tmp_path / f"{1 - victim}.txt").read_text()
    (message,) = re.findall(r"^LostProcessError: (.*)$", told, re.MULTILINE)
    assert re.fullmatch(f"Process {victim} of 2 .*{WAYS[how]}.*", message), message
    assert f"Process {1 - victim}" not in message


def test_the_survivor_of_a_command_names_the_way_on(tmp_path: Path) -> None:
    """The process that records the run is killed: another one prints how to resume what it had recorded."""

    def work(rank: int) -> None:
        os.chdir(tmp_path)
        target = f"{__name__}:{'Deadly' if rank == 0 else 'Slow'}"
        discovery().rewards.add(replace(discovery().rewards["bright"], name="deadly", target=target))
        options = {"how": "kill"} if rank == 0 else {"busy": True}
        rewards = f"rewards.short={{deadly: {{on_error: raise, options: {json.dumps(options)}}}}}"
        cli.app(["generate", "a prompt", "--model", "toy", "--out", "run", "-o", rewards, "-o", "rewards.replace=true"])

    with launched(2, work, tmp_path) as pids:
        codes = end_as_a_launcher_does(pids)
    printed = (tmp_path / "1.txt").read_text()
    (line,) = re.findall(r"^Error: .*$", printed, re.MULTILINE)
    assert re.search(r"Error: Process 0 of 2 .*it (was killed by SIGKILL|has ended)", line), printed
    assert "Resume with: streamt1 generate --resume run" in line
    assert codes == [-signal.SIGKILL, 2], printed
    assert (tmp_path / "run" / "journal.jsonl").exists()


def test_a_later_search_starts_anew_once_every_process_has_got_the_error(tmp_path: Path) -> None:
    """Twice: the first process fails, then the second one; in between and afterwards both make the same video."""

    def work(rank: int) -> None:
        handler = signal.signal(signal.SIGTERM, lambda *_: None)
        ours = signal.getsignal(signal.SIGTERM)
        dist.init_process_group("gloo")
        pipe = streamt1.wrap(ToyPipeline(), overrides=["parallel.candidates=2"])
        for victim in (0, 1):
            with pytest.raises((RuntimeError, StreamT1Error)):
                pipe("a prompt", fail_at=1 if rank == victim else None)
            assert dist.is_initialized()
            assert signal.getsignal(signal.SIGTERM) is ours
            videos: list[Any] = [None, None]
            dist.all_gather_object(videos, pipe("a prompt"))
            assert torch.equal(*videos)
        signal.signal(signal.SIGTERM, handler)
        dist.destroy_process_group()

    with launched(2, work, tmp_path) as pids:
        codes = end_as_a_launcher_does(pids)
    assert codes == [0, 0], [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]


def test_processes_that_search_different_videos_are_refused(tmp_path: Path) -> None:
    """Each makes its share of the candidates, so the two videos would be mixed without a word."""

    def work(rank: int) -> None:
        pipe = streamt1.wrap(ToyPipeline(), overrides=["parallel.candidates=2"])
        with pytest.raises(StreamT1Error, match="search different videos"):
            pipe(f"prompt {rank}")

    with launched(2, work, tmp_path) as pids:
        codes = end_as_a_launcher_does(pids)
    assert codes == [0, 0], [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]
