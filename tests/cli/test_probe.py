"""The command `streamt1 probe`."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins.config import load as recipes
from streamt1_plugins.probe import run as probing
from streamt1_plugins.probe.page import PAGE
from streamt1_plugins.probe.run import ADVICE, ROWS, SUMMARY
from tests.cli.calling import call, one_line
from tests.toy import Bright

SMALL = ("--candidates", "4", "--chunks", "2")


def probe(*args: str, model: str = "toy", prompts: str = "a\n# comment\nb\na\n") -> Any:
    Path("prompts.txt").write_text(prompts, encoding="utf-8")
    return call("probe", model, "--prompts", "prompts.txt", "--out", "out", *SMALL, *args)


def test_it_measures_prints_the_reasons_and_writes_every_file() -> None:
    done = probe()
    assert done.exit_code == 0, done.output
    assert re.search(r"\n2 prompts; 4 candidates per chunk\n1/2  \S+ m?s  about \S+ m?s left  a\n2/2  ", done.stderr)
    assert [line for line in done.stdout.splitlines() if line and line[0] != " "][:3] == [
        "candidates",
        "noise",
        "memory",
    ]
    assert "2 prompts are not enough to tell" in done.stdout
    for name in (ADVICE, PAGE, ROWS, SUMMARY):
        assert Path("out", name).stat().st_size
        assert name in done.stdout
    assert recipes.load("out/advice.yaml").description == "advice of streamt1 probe"
    assert call("generate", "a prompt", "--model", "toy", "-r", "out/advice.yaml", "--out", "run").exit_code == 0


def test_the_same_command_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    score = Bright.score

    def interrupted(self: Bright, inp: Any) -> Any:
        if inp.prompts[0] == "b":
            signal.raise_signal(signal.SIGINT)
        return score(self, inp)

    with monkeypatch.context() as patch:
        patch.setattr(Bright, "score", interrupted)
        stopped = probe()
    assert stopped.exit_code == 130
    assert "1 of 2 prompts are measured in out; the same command continues." in stopped.stderr
    done = probe()
    assert done.exit_code == 0, done.output
    assert "2 prompts, 1 of them measured" in done.stderr
    assert "1/1" in done.stderr


def test_json_is_the_summary_alone() -> None:
    done = probe("--json", "-r", "beam", "-o", "rewards.window=5")
    assert json.loads(done.stdout) == json.loads(Path("out", SUMMARY).read_text(encoding="utf-8"))
    assert recipes.load("out/advice.yaml").rewards.window == 5


def test_prompts_that_cannot_be_used_or_fail_are_reported_and_the_others_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probing, "probe_prompt", failing(probing.probe_prompt))
    done = probe(prompts="a\nb\nc\x01\n")
    assert done.exit_code == 3
    assert "character 2 is U+0001" in done.stderr
    assert "'b': This prompt failed" in done.stderr
    assert [row["prompt"] for row in probing.read(Path("out"))] == ["a"]


def failing(measure: Any) -> Any:
    def probe_prompt(measurement: Any, progress: Any) -> Any:
        if measurement.prompt == "b":
            raise ZeroDivisionError("no luck")
        return measure(measurement, progress)

    return probe_prompt


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--candidates", "3"), "A probe's candidates = 3: expected a number from 4 to 64."),
        (("-r", "stream-t2"), "Unknown recipe 'stream-t2'. Did you mean 'stream-t1'?"),
        (("-o", "search.topk=3"), "unknown key 'search.topk'. Did you mean 'top_k'?"),
        (("--adapter", "toy2"), "Did you mean 'toy'?"),
        (("--device", "cudda"), "Did you mean 'cuda'?"),
        (("--num-frames", "0"), "a video has 1 to 1,000,000 frames"),
        (("--out", "prompts.txt"), "prompts.txt"),
    ],
)
def test_mistakes_are_reported_before_anything_is_measured(args: tuple[str, ...], message: str) -> None:
    assert message in one_line(probe(*args))
    assert not Path("out").exists()


def test_without_prompts_or_with_another_measurement() -> None:
    assert "holds no prompts" in one_line(probe(prompts="# none\n"))
    assert probe().exit_code == 0
    assert "made with seed = 0" in probe("--seed", "1").stderr


def test_the_model_may_be_left_to_the_recipe() -> None:
    Path("prompts.txt").write_text("a\n")
    done = call("probe", "--prompts", "prompts.txt", "--out", "out", *SMALL, "-o", "model=toy", "--json")
    assert done.exit_code == 0, done.output
    assert "model: toy" in Path("out/probed.yaml").read_text()
