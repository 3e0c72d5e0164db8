"""A budget per video: never exceeded, spent where it is needed, decided alike by whoever knows the record."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import HasOutline, Outline, OutlinedSession
from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.run import Cost
from streamt1_plugins.api.types import Chunk
from streamt1_plugins.config import load as recipes
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.plugins import build
from streamt1_plugins.policies.budget import (
    CLOCK,
    SHORT,
    Account,
    Budget,
    RemainingBudget,
    affordable,
    agree,
    drifts,
    spread,
)
from streamt1_plugins.policies.width import FixedWidth, widest
from streamt1_plugins.replay import regenerate
from streamt1_plugins.resuming import open_interrupted
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.search.cost_estimate import describe, estimate
from tests.test_resuming import StopAfter, plain
from tests.toy import SteppingAdapter, SteppingSession, ToyPipeline

CHUNKS = 6
PRICED = "adapter.prices=[5, 2]"
UNMOVED = {"agree": 0, "drift": 1000}  # neither agreement nor drift changes the even share


def run(*overrides: str, observers: Any = None, **width: Any) -> streamt1.StreamPipeline:
    named = (f"width={{name: budget, {', '.join(f'{k}: {v}' for k, v in width.items())}}}",) if width else ()
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=(*overrides, *named), observers=observers)
    pipe.video = pipe("a prompt", chunks=CHUNKS)
    return pipe


def scripted(**script: Any) -> tuple[str, ...]:
    options = ", ".join(f"{name}: {list(value)}" for name, value in script.items())
    return "rewards.replace=true", f"rewards.long={{scripted: {{options: {{{options}}}}}}}", "search.top_k=1"


def widths(pipe: streamt1.StreamPipeline) -> list[int]:
    return [len(pipe.tree.chunk(index)) for index in range(CHUNKS)]


def cost_of(pipe: streamt1.StreamPipeline, candidates: int) -> int:
    """Forwards of the video with that many candidates for every beam."""
    session = pipe.last_run.session
    outline = session.outline() if isinstance(session, OutlinedSession) else Outline((1,) * CHUNKS, (0,) * CHUNKS, 3)
    return estimate(pipe.recipe.sized(candidates=candidates), build.rewards(pipe.recipe), outline).forwards


# The arithmetic.


@pytest.mark.parametrize(
    ("budget", "wish", "width"),
    [
        (RemainingBudget(left=24, now=2, later=6), 1, 3),
        (RemainingBudget(left=31, now=2, later=6), 1, 3),  # whole candidates: what is over stays for later
        (RemainingBudget(left=24, now=2, later=6), 0.5, 1),
        (RemainingBudget(left=24, now=2, later=6), 2, 6),
        (RemainingBudget(left=10, now=2, later=6), 2, 2),  # 6 of 10 are the least of the chunks to come
        (RemainingBudget(left=80, now=2, later=6), 1, 8),  # the most
        (RemainingBudget(left=7, now=2, later=6), 1, 1),
        (RemainingBudget(left=-5, now=2, later=6), 2, 1),  # the least, whatever is left
        (RemainingBudget(left=9, now=2, later=0), 1, 4),
    ],
)
def test_what_a_chunk_can_afford(budget: RemainingBudget, wish: float, width: int) -> None:
    assert affordable(budget, wish, least=1, most=8) == width


def test_the_spread_of_what_was_measured() -> None:
    assert spread([1.0, 3.0, math.nan]) == 1.0
    assert spread([1.0, math.nan]) is None
    assert spread([]) is None


@pytest.mark.parametrize(
    ("spreads", "factor", "expected"),
    [([1.0, 0.5], 0.5, True), ([1.0, 0.51], 0.5, False), ([1.0, 0.2, 0.25], 0.5, True), ([0.1], 0.5, False)],
)
def test_scores_agree_when_they_spread_less_than_before(spreads: list[float], factor: float, expected: bool) -> None:
    assert agree(spreads, factor) is expected
    assert not agree([], factor)


@pytest.mark.parametrize(
    ("longs", "expected"),
    [
        ([1.0, 0.4], True),
        ([1.0, 0.5], False),
        ([0.0, 1.0, 0.1], False),
        ([1.0, 1.0, 0.1], True),
        ([1.0, math.nan], False),
        ([math.nan, 1.0, 0.1], True),
        ([0.1], False),
        ([], False),
    ],
)
def test_a_branch_drifts_when_it_falls_below_its_mean(longs: list[float], expected: bool) -> None:
    assert drifts(longs, margin=0.5) is expected


# Runs.


@pytest.mark.parametrize("priced", [True, False])
@pytest.mark.parametrize("least", [1, 2])
@pytest.mark.parametrize("budget", [1, 20, 47, 60, 75, 99, 120, 1000])
def test_a_budget_is_exceeded_only_by_what_the_least_width_forces(budget: int, least: int, priced: bool) -> None:
    pipe = run(*[PRICED] * priced, "search.candidates=3", forwards=budget, least=least)
    forced = cost_of(pipe, least)
    assert pipe.last_run.cost.forwards <= max(budget, forced)
    if priced:
        assert (SHORT in pipe.tree.notes) == (budget < forced)
    assert all(2 * least <= width <= 12 for width in widths(pipe))


@pytest.mark.parametrize("budget", range(60, 150, 9))
def test_what_is_not_needed_early_is_spent_later(budget: int) -> None:
    pipe = run(PRICED, "search.candidates=3", forwards=budget, **UNMOVED)
    assert cost_of(pipe, 1) < budget < cost_of(pipe, 6)
    one_more = 2 * 2  # a candidate for each of two beams
    assert budget - one_more < pipe.last_run.cost.forwards <= budget


@pytest.mark.parametrize("budget", [150, 200, 260, 330])
@pytest.mark.parametrize(
    "early",
    [("early.steps=1",), ("early.steps=0.25", "early.keep=[0.75, 0.4]"), ("early.steps=2", "early.keep=0.3")],
    ids=str,
)
def test_a_budget_buys_more_candidates_where_they_are_pruned_early(
    monkeypatch: pytest.MonkeyPatch, budget: int, early: tuple[str, ...]
) -> None:
    outline = SteppingAdapter().outline(3 * CHUNKS)
    monkeypatch.setattr(SteppingSession, "outline", lambda self: outline, raising=False)

    def spent(*overrides: str) -> tuple[int, int]:
        named = f"width={{name: budget, forwards: {budget}, agree: 0, drift: 1000}}"
        settings = (named, "search.candidates=8", *overrides)
        pipe = streamt1.wrap(ToyPipeline(), "stream-t1", adapter="toy-steps", overrides=settings)
        pipe("a prompt", chunks=CHUNKS)
        return pipe.last_run.cost.forwards, len(pipe.tree)

    whole, pruned = spent(), spent(*early)
    assert max(whole[0], pruned[0]) <= budget
    assert pruned[1] > whole[1]
    assert pruned[0] > 0.7 * budget


@pytest.mark.parametrize(("budget", "times"), [(200, 2), (30, 1), (21, 0)])
def test_the_search_goes_back_only_where_the_budget_has_enough_left(budget: int, times: int) -> None:
    levels = scripted(levels=(1, 1, 1, 1, 0))
    pipe = run(PRICED, *levels, "revision={name: backtrack, attempts: 2}", forwards=budget, most=4, **UNMOVED)
    assert len(pipe.tree.returns) == times
    assert pipe.last_run.cost.forwards <= budget
    assert any("no revision, because too little" in note for note in pipe.tree.notes) == (times < 2)


def test_a_generous_budget_stops_at_the_most() -> None:
    assert widths(run(PRICED, forwards=10**6, **UNMOVED)) == [8] * CHUNKS
    assert widths(run(PRICED, forwards=10**6, most=3, **UNMOVED)) == [6] * CHUNKS


def test_agreeing_scores_make_the_next_chunk_narrower() -> None:
    spreads = (1, 1, 0.1, 0.1, 1, 1)
    pipe = run("adapter.prices=[1]", *scripted(spreads=spreads), forwards=29, most=9)
    unmoved = run("adapter.prices=[1]", *scripted(spreads=spreads), forwards=29, most=9, **UNMOVED)
    assert widths(unmoved) == [4, 4, 4, 4, 4, 4]
    # After chunks 2 and 3 there was little to choose between; what that saves, the chunks after them get.
    assert widths(pipe) == [4, 4, 4, 2, 2, 8]


def test_a_drifting_branch_gets_more() -> None:
    levels = (5, 5, 5, 1, 5, 5)
    pipe = run("adapter.prices=[1]", *scripted(levels=levels), forwards=29, most=9)
    assert widths(pipe) == [4, 4, 4, 4, 7, 1]
    assert widths(run("adapter.prices=[1]", *scripted(levels=levels), forwards=29, most=9, **UNMOVED)) == [4] * 6


def test_drift_comes_before_agreement() -> None:
    pipe = run("adapter.prices=[1]", *scripted(levels=(5, 5, 1), spreads=(1, 1, 0.1)), forwards=29, most=9)
    assert widths(pipe)[3] == 8


def test_each_beam_is_judged_by_its_own_branch() -> None:
    chosen = stand_in(6.0, 4)
    for chunk, longs in enumerate([(1.0, 1.2), (1.0, 0.2)]):
        for ordinal, long in enumerate(longs):
            chosen.tree.add(streamt1.Node(chunk=chunk, ordinal=ordinal, parent=None, seed=0, long=long, score=long))
    nodes = chosen.tree.nodes
    steady, drifting = (Beam(None, (nodes[f"000.0{i}"], nodes[f"001.0{i}"])) for i in range(2))
    assert [Budget(forwards=9, agree=0).wish(chosen.tree, beam) for beam in (steady, drifting)] == [1.0, 2.0]


def test_those_that_only_some_rewards_have_seen_do_not_count() -> None:
    chosen = stand_in(6.0, 4)
    for chunk, score in enumerate([0.0, 0.9]):
        for ordinal, (each, stage) in enumerate([(1.0, None), (score, None), (50.0, 1)]):
            node = streamt1.Node(chunk=chunk, ordinal=ordinal, parent=None, seed=0, score=each, long=each, stage=stage)
            chosen.tree.add(node)
    assert Budget(forwards=9).wish(chosen.tree, Beam(None)) == 0.5


def test_one_candidate_alone_does_not_agree_with_itself() -> None:
    pipe = run("adapter.prices=[1]", *scripted(spreads=(1, 1, 0.1, 1)), forwards=17, least=1, most=2)
    assert widths(pipe) == [2, 2, 2, 1, 2, 2]


def test_off_is_the_default_and_changes_nothing() -> None:
    default, off = run(), run("width=fixed")
    assert torch.equal(default.video, off.video)
    assert plain(default.tree.to_dict()) == plain(off.tree.to_dict())
    assert widths(default) == [4] * CHUNKS
    assert default.recipe.width.name == "fixed"


def test_a_budget_of_exactly_the_fixed_width_is_the_fixed_width() -> None:
    pipes = [streamt1.wrap(ToyPipeline(), "best-of-n", overrides=["adapter.prices=[3]"]) for _ in range(2)]
    pipes[1] = streamt1.wrap(ToyPipeline(), pipes[0].recipe, overrides=["width={name: budget, forwards: 60, most: 1}"])
    videos = [pipe("a prompt", chunks=4) for pipe in pipes]
    assert torch.equal(*videos)


# Those who decide.


@pytest.mark.parametrize("stop", [0, 2, 4])
@pytest.mark.parametrize("priced", [True, False])
def test_a_resumed_run_decides_as_the_whole_one(tmp_path: Path, stop: int, priced: bool) -> None:
    def started(folder: Path, **more: object) -> streamt1.StreamPipeline:
        return run(*[PRICED] * priced, forwards=80 if priced else 20, observers={**record_to(folder), **more})

    full = started(tmp_path / "full")
    assert len(set(widths(full))) > 1
    with pytest.raises(KeyboardInterrupt):
        started(tmp_path / "cut", stop=StopAfter(stop))
    again = open_interrupted(tmp_path / "cut", ToyPipeline())
    assert torch.equal(again.complete(again.last_run), full.video)
    assert plain(again.tree.to_dict()) == plain(full.tree.to_dict())
    assert again.last_run.cost.forwards == full.last_run.cost.forwards


def test_every_node_of_a_budget_is_replayed(tmp_path: Path) -> None:
    pipe = run(PRICED, forwards=80, observers=record_to(tmp_path))
    assert torch.equal(regenerate(tmp_path, pipe=ToyPipeline()), pipe.video)
    widest_chunk = max(range(CHUNKS), key=lambda index: widths(pipe)[index])
    last = pipe.tree.chunk(widest_chunk)[-1]
    assert len(regenerate(tmp_path, last.id, ToyPipeline())) == 3 * (widest_chunk + 1)


def test_a_clock_is_noted_and_its_path_replayed(tmp_path: Path) -> None:
    pipe = run("adapter.prices=[1]", seconds=0.2, observers=record_to(tmp_path))
    assert CLOCK in pipe.tree.notes
    assert widths(pipe)[0] == 4
    assert torch.equal(regenerate(tmp_path, pipe=ToyPipeline()), pipe.video)


def stand_in(seconds: float, candidates: int) -> Any:
    """A run of two beams that has made `candidates` in so many seconds."""
    recipe = recipes.load({"search": {"candidates": 3, "top_k": 2}})
    cost = Cost(candidates=candidates, seconds={"generate": seconds * 0.75, "reward": seconds * 0.25})
    beam = Beam(None, path=(streamt1.Node(chunk=0, ordinal=0, parent=None, seed=0, long=0.0, score=0.0),))
    return SimpleNamespace(recipe=recipe, cost=cost, beams=(beam, beam), tree=streamt1.Tree(), session=None)


def test_seconds_are_counted_at_what_a_candidate_has_taken() -> None:
    assert Account(stand_in(6.0, 4), Chunk(1, 4)).seconds(20.0) == RemainingBudget(left=14.0, now=3.0, later=6.0)
    assert Account(stand_in(0.0, 0), Chunk(0, 4)).seconds(20.0) is None
    chosen = stand_in(6.0, 4)
    assert Budget(seconds=20.0, most=4).streamt1_width(chosen, Chunk(1, 4), chosen.beams[0]) == 1
    assert Budget(seconds=40.0, most=4).streamt1_width(chosen, Chunk(1, 4), chosen.beams[0]) == 3


# Recipes and forecasts.


@pytest.mark.parametrize(
    ("width", "problem"),
    [
        ("{name: budget}", "name one of the two"),
        ("{name: budget, forwards: 10, seconds: 2}", "name one of the two"),
        ("{name: budget, forwards: 0}", "greater than or equal to 1"),
        ("{name: budget, forwards: 10, least: 4, most: 2}", "width.least = 4 is more than width.most = 2"),
        ("{name: budget, forward: 10}", "no option 'forward'. Did you mean 'forwards'"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(width: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        run(f"width={width}")


def test_rewards_that_say_nothing_across_chunks_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"width 'budget'.*or width=fixed"):
        run("memory=fixed", "rewards.long={bright: {calibration: group}}", forwards=30)


def test_how_far_a_policy_goes() -> None:
    search = recipes.load("stream-t1").search
    assert Budget(forwards=9).bounds(search) == (1, 4)
    assert Budget(forwards=9, least=6).bounds(search) == (6, 6)
    assert [widest(each, search) for each in (Budget(forwards=9, most=3), FixedWidth(), object())] == [3, 2, 2]


@pytest.mark.parametrize("budget", [10, 60, 90, 10**6])
def test_a_forecast_gives_the_least_and_the_most(budget: int) -> None:
    pipe = run(PRICED, forwards=budget)

    class Telling:
        def outline(self, num_frames: int | None = None) -> Outline:
            return pipe.last_run.session.outline()

    told = describe(pipe.recipe, Telling(), build.rewards(pipe.recipe), policies=pipe._policies)
    least, most = (line.strip() for line in told.splitlines())
    assert least.startswith("at least 6 chunks: 12 candidates, ")
    low, high = (int(line.split(" transformer")[0].rpartition(" ")[2]) for line in (least, most))
    assert (low, high) == (cost_of(pipe, 1), max(cost_of(pipe, 1), min(budget, cost_of(pipe, 4))))
    assert low <= pipe.last_run.cost.forwards <= high


def test_without_an_outline_the_forecast_is_the_most_a_chunk_may_take() -> None:
    pipe = run(forwards=30)
    told = describe(pipe.recipe, object(), build.rewards(pipe.recipe), policies=pipe._policies)
    assert told.startswith("at most, per chunk: 8 candidates, 8 S + 2 transformer forwards")
    unbounded = describe(pipe.recipe, object(), build.rewards(pipe.recipe), policies={"width": object()})
    assert unbounded.startswith("per chunk: 4 candidates")


@pytest.mark.parametrize("call", [{}, {"guidance_scale": 2.0}, {"video": torch.rand(1, 9, 3, 64, 64)}], ids=list)
def test_the_bundled_model_takes_what_its_session_tells(call: dict[str, Any]) -> None:
    pipe = streamt1.load()
    pipe("a red circle moving right on a blue background", num_frames=33, **call)
    session, first = pipe.last_run.session, pipe.last_run.beams[0].history.index - len(pipe.tree.winner)
    outline = session.outline()
    given = sum(outline.commit[:first])
    assert first == ("video" in call)
    assert session.forwards == given + 4 * sum(outline.generate[first:]) + 2 * sum(outline.commit[first:])


@pytest.mark.parametrize("budget", [60, 110, 150])
@pytest.mark.parametrize("moved", [True, False])
def test_the_bundled_model_keeps_to_its_budget(budget: int, moved: bool) -> None:
    unmoved = [] if moved else [f"width.{name}={value}" for name, value in UNMOVED.items()]
    pipe = streamt1.load("tinyworld", overrides=[f"width={{name: budget, forwards: {budget}}}", *unmoved])
    pipe("a red circle moving right on a blue background", num_frames=33)
    session, adapter = pipe.last_run.session, build.adapter(pipe.recipe)
    assert isinstance(session, OutlinedSession)
    assert isinstance(adapter, HasOutline)
    assert session.outline() == adapter.outline(33)
    assert (0 if moved else budget - 2 * 4) < pipe.last_run.cost.forwards <= budget
