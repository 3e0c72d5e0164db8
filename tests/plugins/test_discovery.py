"""Every hook is called as its docstring says; plugins are found, named in errors, and never change a result unasked."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch
import typer

import streamt1_plugins as streamt1
from streamt1_plugins.api import hookspecs
from streamt1_plugins.api.types import Proposal
from streamt1_plugins.errors import PluginError
from streamt1_plugins.plugins.discovery import DISABLE, TRACE, Discovery
from streamt1_plugins.plugins.run_hooks import DECISIONS, RunHooks
from tests.third_party.fresh import distribution, fresh_discovery, plugin
from tests.toy import ToyPipeline

if TYPE_CHECKING:
    from pathlib import Path

hookimpl = streamt1.hookimpl
HOOKS = sorted(name for name, value in vars(hookspecs).items() if hasattr(value, "streamt1_spec"))


def run(*overrides: str, observers: dict[str, object] | None = None, **call: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides, observers=observers)
    pipe.video = pipe("a prompt", **call)
    return pipe


def test_there_are_thirteen_hooks_and_each_has_a_test_here() -> None:
    tested = {name.removeprefix("test_hook_") for name in globals() if name.startswith("test_hook_")}
    assert len(HOOKS) == 13
    assert tested == {name.removeprefix("streamt1_") for name in HOOKS}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_are_documented_and_only_decisions_stop_at_the_first_answer(name: str) -> None:
    hook = getattr(hookspecs, name)
    assert (inspect.getdoc(hook) or "").endswith(".")
    assert hook.streamt1_spec["firstresult"] == (name in DECISIONS)


# The hooks, one test each.


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


@dataclass
class Five:
    """Five proposals per beam, seeds counted down from `start`."""

    start: int = 900

    @hookimpl
    def streamt1_propose_noise(self, run: Any, chunk: Any, beam: Any) -> list[Proposal]:
        seeds = [self.start - 100 * chunk.index - 10 * beam.rank - i for i in range(5)]
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        return [Proposal(s, run.session.draw(beam.history, g), g) for s, g in zip(seeds, draws, strict=True)]


@dataclass
class Growing:
    """One candidate more per beam with every chunk; `start` of them at first."""

    start: Any = 1

    @hookimpl
    def streamt1_width(self, chunk: Any) -> Any:
        return self.start + chunk.index if chunk.index else self.start


@dataclass
class Darkest:
    @hookimpl
    def streamt1_score(self, candidate: Any) -> float:
        return -float(candidate.decoded.frames.mean())


@dataclass
class Last:
    @hookimpl
    def streamt1_select(self, candidates: list[Any]) -> list[Any]:
        return candidates[-1:]


@dataclass
class Alternate:
    @hookimpl
    def streamt1_route_memory(self, chunk: Any) -> str:
        return "append" if chunk.index % 2 else "ema"


@hookimpl
def declare_parts(register: Any) -> None:
    register("mine", kind="width", target="tests.plugins.test_discovery:Growing")
    for kind, target in {"noise": "Five", "scoring": "Darkest", "selection": "Last", "memory": "Alternate"}.items():
        register("mine", kind=kind, target=f"tests.plugins.test_discovery:{target}")


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> Discovery:
    return fresh_discovery(monkeypatch, mine=plugin(streamt1_register_policies=declare_parts))


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


@dataclass
class Diary:
    """An unhashable part, like any plain dataclass, that writes down the events."""

    lines: list[Any] = field(default_factory=list)

    @hookimpl
    def streamt1_run_started(self, run: Any) -> None:
        self.lines.append(("started", len(run.tree), run.session.forwards))

    @hookimpl
    def streamt1_candidate_scored(self, run: Any, chunk: Any, candidate: Any) -> None:
        self.lines.append(("scored", candidate.id, candidate.score, tuple(candidate.decoded.frames.shape)))

    @hookimpl
    def streamt1_chunk_selected(self, run: Any, chunk: Any, kept: Any, pruned: Any) -> None:
        committed = [beam.path[-1].id for beam in run.beams]
        self.lines.append(("selected", chunk.index, [c.id for c in kept], [c.id for c in pruned], committed))

    @hookimpl
    def streamt1_run_finished(self, run: Any, error: Any) -> None:
        self.lines.append(("finished", run.tree.winner, error))

    def of(self, kind: str) -> list[Any]:
        return [line for line in self.lines if line[0] == kind]


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


# Parts of a run.


class Full:
    @hookimpl
    def streamt1_run_finished(self) -> None:
        raise OSError("the disk is full")


@pytest.mark.parametrize("order", [("full", "diary"), ("diary", "full")])
def test_run_finished_reaches_every_part_even_when_one_fails(order: tuple[str, str]) -> None:
    parts = {"full": Full(), "diary": Diary()}
    with pytest.raises(PluginError, match="'full' at the end of the run failed: OSError: the disk is full"):
        run(observers={name: parts[name] for name in order})
    assert parts["diary"].of("finished")


def test_a_part_that_fails_at_the_end_does_not_hide_why_the_run_ended(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(RuntimeError, match="the pipeline broke"):
        run(observers={"full": Full()}, fail_at=1)
    assert "the disk is full" in caplog.text


class Plus:
    def __init__(self, amount: float, seen: list[float]) -> None:
        self.amount, self.seen = amount, seen

    @hookimpl(wrapper=True)
    def streamt1_score(self, candidate: Any) -> Any:
        score = yield
        self.seen.append(score)
        return score + self.amount


def test_wrappers_compose_around_the_one_answer() -> None:
    first: list[float] = []
    second: list[float] = []
    plain = run()
    pipe = run(observers={"one": Plus(1, first), "ten": Plus(10, second)})
    assert [b - a for a, b in zip(first, second, strict=True)] == pytest.approx([1] * len(first))
    assert pipe.tree.chunk(0)[0].score == pytest.approx(plain.tree.chunk(0)[0].score + 11)


@dataclass(frozen=True)
class Twin:
    """Equal to every other one: pluggy alone would refuse the second."""


def test_equal_parts_may_stand_side_by_side() -> None:
    assert run(observers={"a": Twin(), "b": Twin()}).tree.winner


def test_parts_are_named_as_in_the_recipe() -> None:
    with pytest.raises(PluginError, match=r"streamt1_select has 2 answers in this run \(selection.top_k, other\)"):
        run(observers={"other": Last()})


class Misspelt:
    @hookimpl
    def streamt1_selekt(self, candidates: Any) -> Any: ...


class WrongArgument:
    @hookimpl
    def streamt1_select(self, candidate_list: Any) -> Any: ...


@pytest.mark.parametrize(("part", "wrong"), [(Misspelt(), "streamt1_selekt"), (WrongArgument(), "candidate_list")])
def test_a_part_with_an_unknown_hook_or_argument_is_named(part: object, wrong: str) -> None:
    with pytest.raises(PluginError, match=rf"(?s)'odd' cannot take part in the run: .*{wrong}"):
        RunHooks(None, [("odd", part)])


# Discovery.


def test_a_broken_plugin_is_named_with_its_distribution_and_the_off_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "acme-video", "acme_broken", "1 / 0", point="acme")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"'acme' of acme-video \(STREAMT1_DISABLE_PLUGINS=acme.*ZeroDivisionError"):
        Discovery()
    monkeypatch.setenv(DISABLE, "other, acme")
    assert "acme" not in Discovery().plugins


def test_a_disabled_plugin_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "wan" in Discovery().adapters
    monkeypatch.setenv(DISABLE, "wan")
    found = Discovery()
    assert "wan" not in found.adapters
    assert "tinyworld" in found.adapters


MISSPELT = """
from streamt1_plugins import hookimpl
@hookimpl
def streamt1_register_reward(register): ...
"""


def test_a_misspelt_hook_name_is_an_error_naming_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "acme-video", "acme_misspelt", MISSPELT, point="acme")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"'acme' of acme-video implements a hook that does not exist.*_reward'"):
        Discovery()


def test_a_refused_plugin_is_not_blamed_on_the_next_one() -> None:
    found = Discovery()
    with pytest.raises(PluginError, match="does not exist"):
        found.add(plugin(streamt1_oops=hookimpl(lambda: None)), name="bad", origin="bad-dist")
    found.add(plugin(), name="good", origin="good-dist")
    assert "good" in found.plugins
    assert "bad" not in found.plugins


def test_a_hook_with_an_unknown_argument_names_the_plugin() -> None:
    with pytest.raises(PluginError, match=r"(?s)'acme' of acme-video .*registry"):
        Discovery().add(
            plugin(streamt1_register_rewards=hookimpl(lambda registry: None)), name="acme", origin="acme-video"
        )


def test_two_distributions_with_one_entry_point_name_are_an_error_naming_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "acme-video", "acme_one", "", point="same")
    distribution(tmp_path, "rival-video", "rival_one", "", point="same")
    monkeypatch.syspath_prepend(tmp_path)
    both = r"a plugin named 'same': (acme|rival)-video \(\w+\) and (acme|rival)-video \(\w+\)"
    with pytest.raises(PluginError, match=both):
        Discovery()
    monkeypatch.setenv(DISABLE, "same")
    Discovery()


@pytest.mark.parametrize(
    ("hook", "declared"),
    [
        ("adapters", {"pipelines": (), "target": "acme:X"}),
        ("rewards", {"target": "acme:X"}),
        ("policies", {"kind": "noise", "target": "acme:X"}),
    ],
)
def test_a_taken_name_is_an_error_naming_both_origins(hook: str, declared: dict[str, Any]) -> None:
    taken = {"adapters": "wan", "rewards": "basic", "policies": "propagate"}[hook]
    rival = plugin(**{f"streamt1_register_{hook}": hookimpl(lambda register: register(taken, **declared))})
    with pytest.raises(PluginError, match=rf"'{taken}': streamt1-plugins \(.*\) and acme-video \(acme:X\)"):
        Discovery().add(rival, name="acme", origin="acme-video")


def test_calls_can_be_traced(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    run()
    assert not caplog.records
    monkeypatch.setenv(TRACE, "1")
    with caplog.at_level(logging.WARNING, logger="streamt1"):
        run()
    assert "streamt1_select calls selection.top_k" in caplog.messages
    assert "streamt1_propose_noise -> list" in caplog.messages


@hookimpl
def answer_everything(register: Any) -> None:
    declare_parts(register)
    register("rogue", kind="observer", target="tests.plugins.test_discovery:Misspelt")


def rogue_select(candidates: Any) -> Any:
    return candidates[-1:]


def test_a_plugin_the_recipe_does_not_name_never_changes_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run()
    rogue = plugin(streamt1_register_policies=answer_everything, streamt1_select=hookimpl(rogue_select))
    fresh_discovery(monkeypatch, rogue=rogue)
    after = run()
    assert torch.equal(before.video, after.video)
    assert [(n.id, n.seed, n.score, n.fate) for n in before.tree] == [
        (n.id, n.seed, n.score, n.fate) for n in after.tree
    ]
