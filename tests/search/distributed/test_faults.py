"""A process that fails, dies or stalls ends all of them with one message, and nothing is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins.runs import journal
from tests.launching import CLI, launch, without_times
from tests.runs.shared import rewrite

TIMEOUT = 15  # for the process that stalls; the others come within it even on a busy machine
WHERE = "Process 1 of 2 while evaluating candidate 002.01, 002.03 with reward 'trouble': "
TOLD = {
    "fail": "Reward 'trouble' failed: SystemError: no luck",
    "die": "it (was killed by SIGKILL, as the system does when memory runs out|has ended)",
    "stall": f"it did not answer for {TIMEOUT} s",
}
LONG = ("-o", "rewards.long.bright={}")


def recipe(how: str) -> tuple[str, ...]:
    return ("-o", f"rewards.short.trouble={{options: {{how: {how}}}, on_error: raise}}", *LONG)


@pytest.mark.parametrize("how", TOLD)
def test_one_message_names_the_process_and_the_candidate(how: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    waits = ("-o", f"parallel.timeout={TIMEOUT}") if how == "stall" else ()
    command = ("generate", "a prompt", "--model", "toy", "--out", out, *recipe(how))
    found = launch(2, CLI, *command, *waits)  # within its timeout, shorter than the stall and the default one
    assert found.returncode != 0
    (line,) = re.findall(r"^Error: .*", found.stderr, re.MULTILINE)
    assert re.fullmatch(f"Error: {WHERE}{TOLD[how]}", line), line
    assert f"Resume with: streamt1 generate --resume {out}" in found.stderr
    kept = journal.read(out)
    assert journal.chunks_done(kept) == 2
    assert kept[-1]["event"] == "finished"
    assert WHERE in kept[-1]["error"]


def others_trouble(start: dict[str, Any], rank: int) -> None:
    start["recipe"]["rewards"]["short"]["trouble"]["options"]["rank"] = rank


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    """Two processes, one of which dies; then three, of which the troubled one is another; then compared with one."""
    command = ("generate", "a prompt", "--model", "toy", *recipe("die"))
    launch(2, CLI, *command, "--out", tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").unlink()  # it names the other process
    rewrite(tmp_path / "run", lambda events: others_trouble(events[0], 9))
    gone_on = launch(3, CLI, "generate", "--resume", tmp_path / "run", "--quiet")
    assert gone_on.returncode == 0, gone_on.stderr
    assert gone_on.stdout.splitlines() == [str(tmp_path / "run" / "video.mp4")]
    alone = launch(1, CLI, *command, "--out", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    trees = [json.loads((tmp_path / name / "tree.json").read_text()) for name in ("run", "alone")]
    assert without_times(trees[0]) == without_times(trees[1])
    videos = [(tmp_path / name / "video.mp4").read_bytes() for name in ("run", "alone")]
    assert videos[0] == videos[1]
