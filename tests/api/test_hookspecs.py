"""Every hook is called as its docstring says."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import typer

from streamt1_plugins.api import hookspecs
from streamt1_plugins.errors import PluginError
from streamt1_plugins.plugins.discovery import Discovery
from streamt1_plugins.plugins.run_hooks import DECISIONS
from tests.parts import Diary, hookimpl, mine, run
from tests.third_party.fresh import plugin

__all__ = ["mine"]  # a fixture
HOOKS = sorted(name for name, value in vars(hookspecs).items() if hasattr(value, "streamt1_spec"))


def test_there_are_thirteen_hooks_and_each_has_a_test_here() -> None:
    tested = {name.removeprefix("test_hook_") for name in globals() if name.startswith("test_hook_")}
    assert len(HOOKS) == 13
    assert tested == {name.removeprefix("streamt1_") for name in HOOKS}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_are_documented_and_only_decisions_stop_at_the_first_answer(name: str) -> None:
    hook = getattr(hookspecs, name)
    assert (inspect.getdoc(hook) or "").endswith(".")
    assert hook.streamt1_spec["firstresult"] == (name in DECISIONS)


def test_hook_register_adapters() -> None:
    @hookimpl
    def declare(register: Any) -> None:
        register("acme", pipelines=("AcmePipeline",), target="acme:Adapter", explicit="because.")

    found = Discovery()
    found.add(plugin(streamt1_register_adapters=declare), name="acme", origin="acme-video")
    entry = found.adapters["acme"]
    assert (entry.pipelines, entry.origin, entry.explicit) == (("AcmePipeline",), "acme-video", "because.")


def test_hook_register_rewards() -> None:
    @hookimpl
    def declare(register: Any) -> None:
        register("acme", target="acme:Reward", extra="acme[gpu]")

    found = Discovery()
    found.add(plugin(streamt1_register_rewards=declare), name="acme", origin="acme-video")
    assert (found.rewards["acme"].target, found.rewards["acme"].extra) == ("acme:Reward", "acme[gpu]")


def test_hook_register_policies() -> None:
    @hookimpl
    def declare(register: Any) -> None:
        for kind in ("width", "noise", "scoring", "selection", "memory", "observer"):
            register("acme", kind=kind, target="acme:Part")

    found = Discovery()
    found.add(plugin(streamt1_register_policies=declare), name="acme", origin="acme-video")
    assert all("acme" in table for table in found.policies.values())


def test_hook_add_commands() -> None:
    @hookimpl
    def add(cli: typer.Typer) -> None:
        cli.command("hello")(lambda: None)

    found, cli = Discovery(), typer.Typer()
    found.add(plugin(streamt1_add_commands=add), name="acme", origin="acme-video")
    found.add_commands(cli)
    assert "hello" in [command.name for command in cli.registered_commands]


def test_hook_propose_noise(mine: Discovery) -> None:
    pipe = run("noise={name: mine, start: 800}")
    assert [len(pipe.tree.chunk(i)) for i in range(4)] == [5, 10, 10, 10]
    assert [node.seed for node in pipe.tree.chunk(1)] == [*range(700, 695, -1), *range(690, 685, -1)]


def test_hook_width(mine: Discovery) -> None:
    pipe = run("width={name: mine, start: 3}")
    assert [len(pipe.tree.chunk(i)) for i in range(4)] == [3, 8, 10, 12]
    assert [len(pipe.tree.children(node.id)) for node in pipe.tree.chunk(1) if node.fate == "kept"] == [5, 5]


@pytest.mark.parametrize("width", ["0", "-1", "many", "1.5"])
def test_a_width_that_is_no_number_of_candidates_is_an_error(mine: Discovery, width: str) -> None:
    with pytest.raises(
        PluginError, match=rf"streamt1_width returned '?{width}'?; expected a whole number of candidates"
    ):
        run(f"width={{name: mine, start: {width}}}")


def test_a_noise_policy_may_ignore_the_width(mine: Discovery) -> None:
    pipe = run("width={name: mine, start: 3}", "noise=mine")
    assert [len(pipe.tree.chunk(i)) for i in range(4)] == [5, 10, 10, 10]


def test_hook_score(mine: Discovery) -> None:
    pipe = run("scoring=mine", "search.top_k=1")
    for index in range(4):
        nodes = pipe.tree.chunk(index)
        darkest = min(nodes, key=lambda node: node.readings["short"]["bright"].raw)
        assert [node.id for node in nodes if node.fate == "kept"] == [darkest.id]


def test_hook_select(mine: Discovery) -> None:
    pipe = run("selection=mine")
    assert pipe.tree.winner == ("000.03", "001.01", "002.01", "003.01")


def test_hook_route_memory(mine: Discovery) -> None:
    pipe = run("memory=mine")
    assert pipe.run.beams[0].history.memory == ("discard", "append", "ema", "append")


def test_hook_run_started() -> None:
    diary = Diary()
    run(observers={"diary": diary})
    assert diary.lines[0] == ("started", 0, 0)
    assert len(diary.of("started")) == 1


def test_hook_candidate_scored() -> None:
    diary = Diary()
    pipe = run(observers={"diary": diary})
    expected = [("scored", node.id, node.score, (3, 3, 2, 2)) for node in pipe.tree]
    assert diary.of("scored") == expected


def test_hook_chunk_selected() -> None:
    diary = Diary()
    run(observers={"diary": diary})
    lines = diary.of("selected")
    assert [line[1] for line in lines] == [0, 1, 2, 3]
    assert all(kept == committed for _, _, kept, _, committed in lines)
    assert all(len(kept) == len(pruned) == 2 and not {*kept} & {*pruned} for _, _, kept, pruned, _ in lines)


def test_hook_run_finished() -> None:
    diary = Diary()
    pipe = run(observers={"diary": diary})
    assert diary.lines[-1] == ("finished", pipe.tree.winner, None)
    with pytest.raises(RuntimeError, match="the pipeline broke"):
        run(observers={"diary": diary}, fail_at=2)
    _, winner, error = diary.lines[-1]
    assert (winner, str(error)) == ((), "the pipeline broke")
