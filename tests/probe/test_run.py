"""A probe's folder: a row per prompt, continued where it stopped, never mixed; and the Python entry."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.errors import FolderInUseError, InputError, PluginError, StreamT1Error
from streamt1_plugins.probe import run as probing
from streamt1_plugins.probe.advice import PROBED
from streamt1_plugins.probe.run import ADVICE, ROWS, SUMMARY, Probe, probe_model, searching
from tests.probe.models import Model, Quality, wrapped
from tests.toy import Bright

FEW = streamt1.ProbeOptions(candidates=4, pairs=1, chunks=2)


def probe(*prompts: str, pipe: Any = None, **changes: Any) -> Probe:
    pipe = wrapped(pipe or Model(chunks=2)) if pipe is None or isinstance(pipe, Model) else pipe
    return Probe(searching(pipe), prompts or ("a", "b"), **{"options": FEW, **changes})


def test_a_probe_continues_where_it_stopped(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    list(probing.run(probe("a", "b", "a"), whole))
    next(probing.run(probe(), parts))
    with (parts / ROWS).open("a", encoding="utf-8") as file:
        file.write('{"prompt": "b", "chunks"')  # killed while it wrote
    assert probing.missing(probe(), parts) == ["b"]
    list(probing.run(probe(), parts))
    first, second = ([{**row, "seconds": 0} for row in probing.read(each)] for each in (whole, parts))
    assert json.dumps(first) == json.dumps(second)
    assert probing.missing(probe(), parts) == []


def test_a_second_probe_in_the_folder_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    first = probing.run(probe(), tmp_path)
    next(first)
    with pytest.raises(FolderInUseError, match=f"is writing to the folder {tmp_path}"):
        next(probing.run(probe(), tmp_path))
    first.close()
    assert [row["prompt"] for row in probing.run(probe(), tmp_path)] == ["b"]


def test_ctrl_c_keeps_the_prompts_that_are_measured(tmp_path: Path) -> None:
    class Interrupting(Bright):
        def score(self, inp: Any) -> Any:
            if inp.prompts[0] == "b":
                signal.raise_signal(signal.SIGINT)
            return super().score(inp)

    pipe = wrapped(Model(chunks=2), interrupting=Interrupting())
    with pytest.raises(KeyboardInterrupt):
        list(probing.run(probe(pipe=pipe), tmp_path))
    assert [row["prompt"] for row in probing.read(tmp_path)] == ["a"]
    pipe("a prompt")  # it is free again


def test_a_prompt_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    class Failing(Bright):
        def score(self, inp: Any) -> Any:
            if inp.prompts[0] == "a":
                raise ZeroDivisionError("no luck")
            return super().score(inp)

    pipe = wrapped(Model(chunks=2), overrides=["rewards.short.failing.on_error=raise"], failing=Failing())
    failed: list[tuple[str, StreamT1Error]] = []
    rows = list(probing.run(probe(pipe=pipe), tmp_path, lambda *each: failed.append(each)))
    assert [row["prompt"] for row in rows] == ["b"]
    assert "no luck" in str(failed[0][1])
    with pytest.raises(PluginError, match="no luck"):
        list(probing.run(probe("a", pipe=pipe), tmp_path))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 1}, "seed = 0"),
        ({"call": {"num_frames": 9}}, "call.num_frames = None"),
        ({"options": streamt1.ProbeOptions(candidates=5, pairs=1, chunks=2)}, "options.candidates = 4"),
        ({"pipe": Model(chunks=2, carry=0.5)}, "recipe.adapter.carry = 0.0"),
    ],
)
def test_a_folder_never_mixes_what_was_measured_differently(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    list(probing.run(probe("a"), tmp_path))
    with pytest.raises(InputError, match=f"made with {key}"):
        list(probing.run(probe("b", **changes), tmp_path))
    assert len(probing.read(tmp_path)) == 1


def test_every_reward_reads_every_candidate_whatever_the_recipe_prunes() -> None:
    overrides = [
        "rewards.keep=0.25",
        "rewards.short.first={stage: 1}",
        "rewards.short.second={stage: 2, veto: 99}",
        "search.top_k=1",
        "observers.console={}",
    ]
    pipe = wrapped(Model(chunks=2), overrides=overrides, first=Quality(), second=Quality())
    row = probing.probe_prompt(probe(pipe=pipe).measurement("a"))
    assert [len(row["chunks"][1]["values"][f"short.{name}"]) for name in ("first", "second")] == [4, 4]
    assert None not in row["chunks"][1]["values"]["short.second"]
    assert searching(pipe).recipe.observers == {}


def test_prompts_have_seeds_of_their_own_that_do_not_depend_on_the_others() -> None:
    seeds = [probe(*prompts).measurement("a").seed for prompts in (("a",), ("b", "a"))]
    assert seeds[0] == seeds[1]
    assert len({probe().measurement(prompt).seed for prompt in "ab"}) == 2
    assert probe(seed=1).measurement("a").seed != seeds[0]


def test_in_python_the_advice_can_be_followed(tmp_path: Path) -> None:
    pipe = wrapped(Model(chunks=2))
    found = probe_model(pipe, ["a", "b"], tmp_path / "out", options=FEW)
    assert {ADVICE, PROBED, ROWS, SUMMARY} <= {each.name for each in (tmp_path / "out").iterdir()}
    streamt1.wrap(pipe, found.recipe)("a prompt")
    summary = json.loads((tmp_path / "out" / SUMMARY).read_text(encoding="utf-8"))
    assert summary["advice"]["recipe"]["extends"] == PROBED
    again = probe_model(pipe, ["a"], tmp_path / "out", options=FEW)  # the folder has it
    assert (again.findings.prompts, found.findings.prompts) == (1, 2)
    alone = probe_model(pipe, ["a"], options=FEW)
    assert str(alone) == str(again)


@pytest.mark.parametrize(
    ("prompts", "message"), [([], "list of texts"), ("a", "list of texts"), (["a", ""], "list of texts")]
)
def test_prompts_that_are_none_are_refused(prompts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        probe_model(wrapped(Model()), prompts)
    with pytest.raises(InputError, match="`generator` is no argument here"):
        probe_model(wrapped(Model()), ["a"], generator=None)
    with pytest.raises(InputError, match="wrap it first"):
        probe_model(Model(), ["a"])  # type: ignore[arg-type]


def test_a_reward_that_fails_is_named() -> None:
    class Failing(Bright):
        def score(self, inp: Any) -> Any:
            raise ZeroDivisionError("no luck")

    found = probe_model(wrapped(Model(chunks=2), failing=Failing()), ["a"], options=FEW)
    assert "could not be judged: Reward 'failing' failed: ZeroDivisionError: no luck" in str(found)


def test_a_folder_that_cannot_be_made_and_nothing_to_conclude(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StreamT1Error, match="cannot hold results"):
        list(probing.run(probe(), tmp_path / "file"))
    with pytest.raises(InputError, match="nothing to conclude from"):
        probing.conclude(probe(), [])


@pytest.mark.parametrize(
    "options", [{"routed": False}, {"hidden": 0.5}, {"max_batch": 1}, {"shares": (0.5, 0.5)}, {"chunks": 1}]
)
def test_every_kind_of_session_can_be_probed(options: dict[str, Any]) -> None:
    found = probe_model(wrapped(Model(**options)), ["a"], options=FEW)
    assert found.findings.draws == len(options.get("shares", (1,)))
    assert found.findings.shares["first"]
    assert set(found.advice.reasons) == {"candidates", "noise", "memory"}
