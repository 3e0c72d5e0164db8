"""The hooks of a run: each called as its docstring says, by the plugins that the recipe names alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.types import Proposal, Revision, RevisionLimits
from streamt1_plugins.errors import PluginError
from streamt1_plugins.plugins.discovery import Discovery
from streamt1_plugins.plugins.run_hooks import RunHooks
from tests.third_party.fresh import fresh_discovery, plugin
from tests.toy import ToyPipeline, ToySession

if TYPE_CHECKING:
    pass


hookimpl = streamt1.hookimpl


def run(*overrides: str, observers: dict[str, object] | None = None, **call: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides, observers=observers)
    pipe.video = pipe("a prompt", **call)
    return pipe


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
    parts = {"width": Growing, "noise": Five, "scoring": Darkest, "selection": Last, "memory": Alternate}
    for kind, target in parts.items():
        register("mine", kind=kind, target=target)


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


class Twice:
    """Two rounds in every chunk, and the first chunk anew; every answer is written down."""

    limits = RevisionLimits(reach=0, returns=1, rounds=2)

    def __init__(self) -> None:
        self.events: list[tuple[int, int | None, int]] = []

    @hookimpl
    def streamt1_revise(self, run: Any, chunk: Any, candidates: Any) -> Any:
        if len({each.round for each in candidates}) < 2:
            return Revision()
        return None if run.tree.returns else Revision(back_to=chunk.index)

    @hookimpl
    def streamt1_revised(self, chunk: Any, revision: Any, candidates: Any) -> None:
        self.events.append((chunk.index, revision.back_to, len(candidates)))


def test_hook_revise() -> None:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", policies={"revision": Twice()})
    pipe("a prompt")
    assert [len(pipe.tree.chunk(index)) for index in range(4)] == [8] * 4
    assert len(pipe.tree.abandoned()) == 8


def test_hook_revised() -> None:
    twice = Twice()
    streamt1.wrap(ToyPipeline(), "stream-t1", policies={"revision": twice})("a prompt")
    assert twice.events == [(0, None, 4), (0, 0, 8), *((index, None, 4) for index in range(4))]


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

    @hookimpl
    def streamt1_run_started(self) -> None: ...


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


# Parts that misbehave.


def answering(hook: str, answer: Any) -> Any:
    """A part whose hook returns `answer`, or raises it."""

    def implementation(self: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return type("Odd", (), {hook: hookimpl(implementation)})()


KINDS = {
    "streamt1_width": "width",
    "streamt1_propose_noise": "noise",
    "streamt1_score": "scoring",
    "streamt1_revise": "revision",
    "streamt1_select": "selection",
    "streamt1_route_memory": "memory",
}


def run_with(hook: str, answer: Any) -> None:
    policies: Any = {KINDS[hook]: answering(hook, answer)}
    streamt1.wrap(ToyPipeline(), "stream-t1", policies=policies)("a prompt")


class Mute:
    def __repr__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    ("hook", "answer", "expected"),
    [
        ("streamt1_width", 2.0, r"returned 2\.0; expected a whole number"),
        ("streamt1_width", Mute(), "returned <Mute without text: SystemExit>; expected a whole number"),
        ("streamt1_propose_noise", 5, "returned 5; expected a list of `Proposal`"),
        ("streamt1_propose_noise", [1, 2], "returned 1; expected a list of `Proposal`"),
        ("streamt1_propose_noise", [], "returned no proposals"),
        ("streamt1_score", "high", "returned 'high'; expected a number"),
        ("streamt1_score", 1j, "returned 1j; expected a number"),
        ("streamt1_score", torch.zeros(2), "returned tensor.*; expected a number"),
        ("streamt1_select", 5, "returned 5; expected a list of `Candidate`"),
        ("streamt1_select", ["000.00"], "returned '000.00'; expected a list of `Candidate`"),
        ("streamt1_select", [], "returned none"),
        ("streamt1_route_memory", ["ema"], r"returned \['ema'\]; expected the name of a route"),
        ("streamt1_route_memory", "sideways", "returned 'sideways'"),
    ],
)
def test_an_answer_that_cannot_be_used_is_shown_with_what_was_expected(hook: str, answer: Any, expected: str) -> None:
    with pytest.raises(PluginError, match=f"{hook} {expected}") as caught:
        run_with(hook, answer)
    if "expected" in str(caught.value):
        assert str(caught.value).endswith(f"It is answered by {KINDS[hook]}.Odd.")


@pytest.mark.parametrize("hook", KINDS)
@pytest.mark.parametrize("error", [StopIteration(), SystemExit(0), GeneratorExit(), ValueError("\ud800")], ids=repr)
def test_a_policy_that_fails_is_named(hook: str, error: BaseException) -> None:
    with pytest.raises(PluginError, match=rf"Odd' in {hook} failed: {type(error).__name__}"):
        run_with(hook, error)


@pytest.mark.parametrize(
    "hook", ["streamt1_run_started", "streamt1_candidate_scored", "streamt1_chunk_selected", "streamt1_run_finished"]
)
@pytest.mark.parametrize("error", [StopIteration(), SystemExit(0), GeneratorExit(), ValueError("\ud800")], ids=repr)
def test_an_observer_that_fails_is_named_and_the_others_are_informed_of_the_end(
    hook: str, error: BaseException
) -> None:
    diary = Diary()
    where = "at the end of the run" if hook == "streamt1_run_finished" else f"in {hook}"
    with pytest.raises(PluginError, match=f"'odd' {where} failed: {type(error).__name__}") as caught:
        run(observers={"odd": answering(hook, error), "diary": diary})
    (finished,) = diary.of("finished")
    assert finished[2] is (None if hook == "streamt1_run_finished" else caught.value)


def test_an_adapter_whose_session_raises_stop_iteration_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToySession, "commit", lambda *_: next(iter(())))
    with pytest.raises(PluginError, match="The adapter's session failed in commit: StopIteration"):
        run()
