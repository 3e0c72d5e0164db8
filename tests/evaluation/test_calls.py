"""Calls of one reward: batches, failures, wrong answers."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import ContractError, InputError, PluginError
from tests.toy import Bright, ToyPipeline


def run(*overrides: str, recipe: str = "stream-t1", **call: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides)
    pipe("a prompt", **call)
    return pipe


BOTH = "rewards.long.bright={}"


def run_with(reward: streamt1.Reward, *overrides: str, horizon: str = "short") -> streamt1.StreamPipeline:
    """A run of the toy in which `reward` counts on one horizon, as `mine`; the toy's own reward on the other one."""
    other = "long" if horizon == "short" else "short"
    named = [
        "rewards.replace=true",
        f"rewards.{horizon}.mine={{}}",
        *([] if overrides else [f"rewards.{other}.bright={{}}"]),
    ]
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[*named, *overrides], rewards={"mine": reward})
    pipe("a prompt")
    return pipe


@dataclass
class ScoresList(streamt1.Reward):
    """Returns what is not a tensor."""

    def score(self, inp: Any) -> Any:
        return streamt1.RewardOutput([0.0] * len(inp.prompts))  # type: ignore[arg-type]


def test_scores_that_are_no_tensor_cost_the_candidates_not_the_run() -> None:
    pipe = run_with(ScoresList())
    assert pipe.tree.chunk(0)[0].problem == "Reward 'mine' returned scores of type list, expected a tensor."


class Flaky(Bright):
    """Fails in one chunk, whatever it is asked about."""

    def score(self, inp: Any) -> Any:
        if inp.chunk == 1:
            raise ZeroDivisionError("no luck")
        return super().score(inp)


def test_a_failing_reward_can_be_left_out_for_all_candidates_of_the_chunk() -> None:
    other = "rewards.short.picky={weight: 3, options: {chunk: 99}}"
    pipe = run_with(Flaky(), "rewards.short.mine.on_error=skip", other)
    assert [set(node.readings["short"]) for node in pipe.tree.chunk(1)] == [{"picky"}] * 4
    assert [set(node.readings["short"]) for node in pipe.tree.chunk(2)] == [{"picky", "mine"}] * 4
    assert all(node.short == pytest.approx(node.readings["short"]["picky"].value) for node in pipe.tree.chunk(1))
    assert [node.problem for node in pipe.tree] == [None] * 16
    (note,) = pipe.tree.notes
    assert note.startswith("Reward 'mine' failed and was left out where it did, first in chunk 1: ")
    assert "ZeroDivisionError: no luck" in note


def test_a_horizon_whose_only_reward_is_left_out_counts_as_not_measured() -> None:
    pipe = run_with(Flaky(), "rewards.short.mine.on_error=skip", BOTH)
    assert all(math.isnan(node.short) and node.score == node.long for node in pipe.tree.chunk(1))


def test_a_failing_reward_can_end_the_run() -> None:
    with pytest.raises(PluginError, match="Reward 'mine' failed: ZeroDivisionError: no luck"):
        run_with(Flaky(), "rewards.short.mine.on_error=raise")


def test_by_default_a_failing_reward_costs_candidates_and_the_run_goes_on() -> None:
    pipe = run_with(Flaky())
    assert [node.fate for node in pipe.tree.chunk(1)] == ["kept", "invalid", "invalid", "invalid"]
    assert len(pipe.tree.winner) == 4
    assert "no valid candidate" in pipe.tree.notes[0]


def test_a_candidate_the_reward_calls_not_valid_is_invalid() -> None:
    class Unsure(Bright):
        def score(self, inp: Any) -> Any:
            scores = super().score(inp).scores
            return streamt1.RewardOutput(scores, valid=torch.arange(len(scores)) != 2)

    pipe = run_with(Unsure())
    assert [node.is_valid for node in pipe.tree.chunk(0)] == [True, True, False, True]


@dataclass
class Logged(Bright):
    """Keeps a log of what is done to it."""

    log: list[str] = field(default_factory=list)

    def load(self, device: str) -> None:
        self.log.append(f"load {device}")

    def score(self, inp: Any) -> Any:
        self.log.append(f"score {len(inp.prompts)}")
        return super().score(inp)

    def unload(self) -> None:
        self.log.append("unload")

    def reset(self) -> None:
        self.log.append("reset")


def test_the_batch_limit_of_a_reward_is_obeyed() -> None:
    class Narrow(Logged):
        batch_limit = 3

    reward = Narrow()
    pipe = run_with(reward)
    assert [entry for entry in reward.log if entry.startswith("score")] == ["score 3", "score 1"] * 4
    assert [node.score for node in pipe.tree] == [node.score for node in run().tree]


# Whatever a reward does, `on_error` decides, the reward is named, and the record is written.


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Ours(PluginError):
    def __str__(self) -> str:
        raise KeyError


def deep() -> None:
    deep()


def raises(error: BaseException) -> Any:
    raise error


def forks() -> None:
    if os.fork() == 0:
        raise ValueError("in the copy")
    os.wait()
    raise ValueError("in the first process")


def uncalled() -> Any:
    async def score() -> None: ...

    coroutine = score()
    coroutine.close()
    return coroutine


MISBEHAVES: dict[str, tuple[Any, str]] = {
    "StopIteration": (lambda: next(iter(())), "StopIteration"),
    "SystemExit": (sys.exit, "SystemExit"),
    "SystemExit(0)": (lambda: sys.exit(0), "SystemExit: 0"),
    "KeyboardInterrupt": (lambda: raises(KeyboardInterrupt()), "KeyboardInterrupt"),
    "GeneratorExit": (lambda: raises(GeneratorExit()), "GeneratorExit"),
    "BaseException": (lambda: raises(BaseException("base")), "BaseException: base"),
    "recursion": (deep, "RecursionError"),
    "mute": (lambda: raises(Mute()), "Mute: <Mute without text: SystemExit>"),
    "surrogate": (lambda: raises(ValueError("\ud800")), r"ValueError: \ud800"),
    "escape": (lambda: raises(ValueError("\x1b[2J")), r"ValueError: \x1b[2J"),
    "long": (lambda: raises(ValueError("x" * 10**6)), "998000 characters left out"),
    "InputError": (lambda: raises(InputError("mine")), "InputError: mine"),
    "ContractError": (lambda: raises(ContractError("mine")), "ContractError: mine"),
    "a class of its own": (lambda: raises(Ours()), "Ours: <Ours without text: KeyError>"),
    "warning": (lambda: (warnings.simplefilter("error"), warnings.warn("mine", stacklevel=1)), "UserWarning: mine"),
    "fork": (forks, "ValueError: in the first process"),
    "nothing": (lambda: None, "returned None"),
    "complex": (lambda: streamt1.RewardOutput(torch.zeros(4, dtype=torch.complex64)), "returned scores of dtype"),
    "coroutine": (uncalled, "returned <coroutine"),
}


@dataclass
class Misbehaving(streamt1.Reward):
    """Does in its first chunk what a test wants, and gives the mean of the frames later."""

    what: str = ""
    batch_exact = True

    def score(self, inp: Any) -> Any:
        if inp.chunk == 1:
            return MISBEHAVES[self.what][0]()
        return streamt1.RewardOutput(inp.video.mean((1, 2, 3, 4)))


@pytest.mark.parametrize("what", MISBEHAVES)
@pytest.mark.parametrize("horizon", ["short", "long"])
def test_whatever_a_reward_does_its_candidates_are_invalid_and_the_record_is_written(
    what: str, horizon: str, tmp_path: Path
) -> None:
    pipe = misbehaving(what, horizon, "invalidate", tmp_path)
    pipe("a prompt")
    expected = MISBEHAVES[what][1]
    assert all(expected in (node.problem or "") for node in pipe.tree.chunk(1))
    assert all("Reward 'mine'" in (node.problem or "") for node in pipe.tree.chunk(1))
    assert all(node.is_valid for node in pipe.tree.chunk(2))
    summary, tree = (json.loads((tmp_path / name).read_text()) for name in ("summary.json", "tree.json"))
    assert summary["error"] is None
    assert expected in tree["nodes"][4]["problem"]


@pytest.mark.parametrize("what", MISBEHAVES)
def test_whatever_a_reward_does_it_can_be_left_out(what: str, tmp_path: Path) -> None:
    pipe = misbehaving(what, "short", "skip", tmp_path)
    pipe("a prompt")
    assert all(node.is_valid for node in pipe.tree)
    (note,) = [note for note in pipe.tree.notes if "was left out" in note]
    assert MISBEHAVES[what][1] in note
    assert json.loads((tmp_path / "summary.json").read_text())["notes"] == pipe.tree.notes


@pytest.mark.parametrize("what", MISBEHAVES)
def test_whatever_a_reward_does_it_can_end_the_run(what: str, tmp_path: Path) -> None:
    pipe = misbehaving(what, "long", "raise", tmp_path)
    with pytest.raises(PluginError) as caught:
        pipe("a prompt")
    assert MISBEHAVES[what][1] in str(caught.value)
    assert "Reward 'mine'" in str(caught.value)
    assert MISBEHAVES[what][1] in json.loads((tmp_path / "summary.json").read_text())["error"]
    assert len(json.loads((tmp_path / "tree.json").read_text())["nodes"]) == 4


def misbehaving(what: str, horizon: str, on_error: str, folder: Path) -> streamt1.StreamPipeline:
    named = {"mine": {"on_error": on_error}, "bright": {}} if on_error == "skip" else {"mine": {"on_error": on_error}}
    recipe = {"extends": "stream-t1", "rewards": {"short": {"bright": {}}, "long": {"bright": {}}, horizon: named}}
    return streamt1.wrap(
        ToyPipeline(), recipe, rewards={"mine": Misbehaving(what=what)}, observers=streamt1.record_to(folder)
    )


def test_ctrl_c_during_a_reward_ends_the_run() -> None:
    class Slow(Bright):
        def score(self, inp: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return super().score(inp)

    with pytest.raises(KeyboardInterrupt):
        run_with(Slow())


def test_what_a_reward_changes_in_the_process_is_put_back_and_noted_once() -> None:
    class Careless(Bright):
        def load(self, device: str) -> None:
            torch.set_default_dtype(torch.float64)
            torch.rand(3)

        def score(self, inp: Any) -> Any:
            torch.set_default_device("meta")
            torch.set_num_threads(2)
            return super().score(inp)

    before = torch.get_rng_state()
    pipe = run_with(Careless())
    assert (torch.zeros(()).device.type, torch.get_default_dtype(), torch.get_num_threads()) == (
        "cpu",
        torch.float32,
        1,
    )
    assert torch.equal(before, torch.get_rng_state())
    assert [node.score for node in pipe.tree] == [node.score for node in run().tree]
    assert pipe.tree.notes == [
        "Loading reward 'mine' changed torch's default dtype, which was put back.",
        "Reward 'mine' changed torch's default device, which was put back.",
        "Reward 'mine' changed torch's number of threads, which was put back.",
    ]


@pytest.mark.parametrize("name", ["offload", "unload", "reset"])
def test_a_reward_that_cannot_be_freed_costs_no_video(name: str) -> None:
    def fails(self: Any) -> None:
        raise StopIteration

    class Stuck(Bright):
        pass

    setattr(Stuck, name, fails)
    if name == "reset":  # frame keys would mean the pixels of another run
        with pytest.raises(PluginError, match="Resetting reward 'mine' failed: StopIteration"):
            run_with(Stuck())
        return
    doing = f"{name.capitalize()}ing reward 'mine' failed: StopIteration"
    pipe = run_with(Stuck(), f"rewards.short.mine.{name}=true", BOTH)
    assert (pipe.tree.notes, len(pipe.tree.winner)) == ([doing], 4)
    with pytest.raises(PluginError, match=doing):
        run_with(Stuck(), f"rewards.short.mine.{name}=true", "rewards.short.mine.on_error=raise", BOTH)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("horizons", "short"),
        ("horizons", None),
        ("horizons", property(lambda self: 1 / 0)),
        ("batch_limit", 0),
        ("batch_limit", "2"),
        ("lead_frames", -1),
        ("needs_prompt", "yes"),
        ("deterministic", None),
    ],
)
def test_a_declaration_that_cannot_be_obeyed_is_an_error_before_anything_is_generated(
    declared: str, value: Any
) -> None:
    reward = type("Odd", (Bright,), {declared: value})()
    with pytest.raises(PluginError, match=rf"declares {declared} = |Reading {declared} of a reward failed"):
        streamt1.wrap(ToyPipeline(), "stream-t1", rewards={"mine": reward})
