"""Particles: weights from scores, draws that are fair and few, widths that add up, decided alike by whoever resumes."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.types import Chunk, Node
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.plugins.resolve import resolve
from streamt1_plugins.policies.budget import Budget
from streamt1_plugins.policies.particles import (
    SCHEMES,
    Smc,
    counted,
    effective_size,
    normalised,
    residual,
    systematic,
)
from streamt1_plugins.policies.random_pick import uniform
from streamt1_plugins.replay import branch
from streamt1_plugins.resuming import open_interrupted
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.testing import PolicyContract
from tests.test_resuming import StopAfter, plain
from tests.toy import ToyPipeline

CHUNKS = 8
SHARP = "selection.strength=200"


def run(*overrides: str, recipe: str = "smc", observers: Any = None, seed: int = 0) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=(f"seed={seed}", *overrides), observers=observers)
    pipe.video = pipe("a prompt", chunks=CHUNKS)
    return pipe


def survivors(pipe: streamt1.StreamPipeline) -> list[int]:
    return [len(pipe.tree.kept(index)) for index in range(CHUNKS)]


def widths(pipe: streamt1.StreamPipeline) -> list[int]:
    return [len(pipe.tree.chunk(index)) for index in range(CHUNKS)]


# The arithmetic.


def test_weights_come_from_logarithms_of_any_size() -> None:
    assert normalised([0.0, math.log(3)]) == pytest.approx([0.25, 0.75])
    assert normalised([1e6, 1e6 - math.log(4)]) == pytest.approx([0.8, 0.2])
    assert normalised([-1e99, 0.0]) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("weights", "size"), [([0.25] * 4, 4.0), ([1.0, 0.0, 0.0], 1.0), ([0.5, 0.5, 0.0, 0.0], 2.0), ([0.75, 0.25], 1.6)]
)
def test_the_effective_size_is_that_of_equal_weights(weights: list[float], size: float) -> None:
    assert effective_size(weights) == pytest.approx(size)


def test_points_are_counted_where_they_fall() -> None:
    assert counted([0.5, 0.0, 0.5], [0.0, 0.49, 0.5, 0.99]) == [2, 0, 2]
    assert counted([0.0, 1.0, 0.0], [0.0, 0.9999999]) == [0, 2, 0]
    assert counted([2.0, 6.0], [0.2, 0.3, 0.9]) == [1, 2]  # weights need not sum to 1


@pytest.mark.parametrize(
    ("weights", "point", "expected"),
    [
        ([0.25] * 4, 0.3, [1, 1, 1, 1]),
        ([0.5, 0.5], 0.9, [2, 2]),
        ([0.6, 0.3, 0.1], 0.1, [3, 1, 0]),  # the comb at 0.025, 0.275, 0.525, 0.775
        ([0.6, 0.3, 0.1], 0.7, [2, 1, 1]),  # at 0.175, 0.425, 0.675, 0.925
        ([1.0, 0.0], 0.999, [4, 0]),
    ],
)
def test_a_systematic_draw_is_a_comb(weights: list[float], point: float, expected: list[int]) -> None:
    assert systematic(weights, 4, [point]) == expected


def test_a_residual_draw_keeps_the_whole_part_and_draws_the_rest() -> None:
    assert residual([0.5, 0.25, 0.25], 4, [0.1]) == [2, 1, 1]
    assert residual([0.6, 0.4], 4, [0.3]) == [3, 1]  # 2 and 1 for sure; 0.4 and 0.6 are left for one draw
    assert residual([0.6, 0.4], 4, [0.5]) == [2, 2]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_draws_are_unbiased_and_give_each_its_whole_part(scheme: str) -> None:
    weights, draws, rounds = [0.45, 0.3, 0.15, 0.1], 5, 4000
    total: Counter[int] = Counter()
    for seed in range(rounds):
        counts = SCHEMES[scheme](weights, draws, [uniform(seed, 0, index) for index in range(draws)])
        assert sum(counts) == draws
        assert all(count >= math.floor(draws * weight) for count, weight in zip(counts, weights, strict=True))
        total.update(dict(enumerate(counts)))
    assert [total[index] / rounds / draws for index in range(4)] == pytest.approx(weights, abs=0.01)


# Selections on a tree of numbers.


def stand_in(*levels: list[tuple[float, int | None]], particles: int = 2, seed: int = 1, count: int = 4) -> Any:
    """A run whose tree holds a level of (score, ordinal of the parent) per chunk; the last level is what is judged."""
    tree = streamt1.Tree()
    for chunk, level in enumerate(levels):
        for ordinal, (score, parent) in enumerate(level):
            name = None if parent is None else f"{chunk - 1:03d}.{parent:02d}"
            tree.add(Node(chunk=chunk, ordinal=ordinal, parent=name, seed=0, score=score, fate="pruned"))
    search = SimpleNamespace(top_k=particles)
    return SimpleNamespace(tree=tree, seed=seed, recipe=SimpleNamespace(search=search), count=count)


def selected(smc: Smc, found: Any, chunk: int) -> list[int]:
    nodes: Any = found.tree.chunk(chunk)
    return [node.ordinal for node in smc.streamt1_select(found, Chunk(chunk, found.count), nodes)]


def copies(smc: Smc, found: Any, chunk: int) -> dict[str, int]:
    return dict(smc._before(found, Chunk(chunk, found.count)).copies)


def test_equal_weights_are_left_alone() -> None:
    found = stand_in([(1.0, None), (1.0, None)])
    assert selected(Smc(), found, 0) == [0, 1]
    assert copies(Smc(), found, 1) == {"000.00": 1, "000.01": 1}


def test_a_heavy_candidate_takes_all_places_and_is_kept_once() -> None:
    found = stand_in([(0.0, None), (9.0, None)])
    smc = Smc(temper="none")
    assert selected(smc, found, 0) == [1]
    assert copies(smc, found, 1) == {"000.01": 2}


def test_weights_wait_until_the_effective_size_falls() -> None:
    """Twice as good in two chunks: 1 to 4 is an effective size of 1.47 of 2; resampled below 3/4, not below 1/2."""
    gain = math.log(2)
    found = stand_in([(gain, None), (0.0, None)], [(2 * gain, 0), (0.0, 1)])
    patient, eager = (Smc(strength=1.0, temper="none", resample=share) for share in (0.5, 0.75))
    assert copies(patient, found, 2) == {"001.00": 1, "001.01": 1}
    assert eager._before(found, Chunk(1, 4)).logs  # 1 to 2 is 1.8 of 2
    assert not eager._before(found, Chunk(2, 4)).logs
    logs = patient._before(found, Chunk(2, 4)).logs
    assert logs["001.00"] - logs["001.01"] == pytest.approx(2 * gain)


def test_after_a_draw_only_what_is_gained_since_counts() -> None:
    """Both particles descend from the one at 5: what counts is where each went from there, and not that it is high."""
    found = stand_in([(5.0, None), (-5.0, None)], [(5.0, 0), (5.2, 0)])
    smc = Smc(strength=1.0, temper="none", resample=0.9)
    assert copies(smc, found, 1) == {"000.00": 2}
    logs = smc._before(found, Chunk(2, 4)).logs
    assert logs == pytest.approx({"001.00": 0.0, "001.01": 0.2})


def test_tempering_lets_early_scores_weigh_less() -> None:
    found = stand_in([(1.0, None), (0.0, None)], [(1.0, 0), (0.0, 1)])
    warm = Smc(strength=2.0, resample=0.0)
    assert warm._before(found, Chunk(1, 4)).logs == pytest.approx({"000.00": 0.5, "000.01": 0.0})
    assert warm._before(found, Chunk(2, 4)).logs == pytest.approx({"001.00": 1.0, "001.01": 0.0})
    constant = Smc(strength=2.0, resample=0.0, temper="none")
    assert constant._before(found, Chunk(1, 4)).logs == pytest.approx({"000.00": 2.0, "000.01": 0.0})


def test_more_candidates_than_particles_are_always_drawn_from() -> None:
    found = stand_in([(0.0, None)] * 4)
    kept = selected(Smc(resample=0.0), found, 0)
    assert len(kept) == 2
    picks = {tuple(selected(Smc(resample=0.0), stand_in([(0.0, None)] * 4, seed=seed), 0)) for seed in range(9)}
    assert len(picks) > 1


def test_the_last_chunk_keeps_the_best() -> None:
    found = stand_in([(0.0, None), (1.0, None), (0.9, None)], count=1)
    assert selected(Smc(), found, 0) == [1, 2]


def test_scores_of_any_size_are_weighed() -> None:
    found = stand_in([(1e308, None), (-1e308, None)], [(math.nan, 0), (1.0, 0)])
    smc = Smc(strength=1e6)
    assert selected(smc, found, 0) == [0]
    assert sum(copies(smc, found, 2).values()) == 2


def test_what_a_selection_was_not_offered_does_not_count() -> None:
    found = stand_in([(0.0, None), (0.0, None)])
    late = Node(chunk=0, ordinal=2, parent=None, seed=0, score=99.0, stage=1, fate="pruned")
    broken = Node(chunk=0, ordinal=3, parent=None, seed=0, score=99.0, problem="NaN", fate="invalid")
    left = Node(chunk=0, ordinal=4, parent=None, seed=0, score=99.0, fate="abandoned")
    for node in (late, broken, left):
        found.tree.add(node)
    assert copies(Smc(), found, 1) == {"000.00": 1, "000.01": 1}


# Runs.


def test_every_chunk_is_as_wide_as_the_particles_are_many() -> None:
    for overrides in ((), (SHARP,), (SHARP, "selection.scheme=residual"), (SHARP, "search.top_k=7")):
        pipe = run(*overrides)
        assert set(widths(pipe)) == {pipe.recipe.search.top_k}
    sharp = run(SHARP)
    assert min(survivors(sharp)) < 4 == survivors(sharp)[-1]
    assert survivors(run("selection.strength=0")) == [4] * CHUNKS


def test_a_particle_that_is_drawn_several_times_branches_as_often() -> None:
    pipe, smc = run(SHARP), Smc(strength=200.0)
    for index in range(1, CHUNKS):
        expected = smc._before(pipe.last_run, Chunk(index, CHUNKS)).copies
        children = Counter(node.parent for node in pipe.tree.chunk(index))
        assert children == expected
        assert set(expected) == {node.id for node in pipe.tree.kept(index - 1)}


def test_several_candidates_each_share_the_places() -> None:
    pipe = run(SHARP, "search.candidates=3", "search.top_k=2")
    assert set(widths(pipe)) == {6}
    assert all(1 <= each <= 2 for each in survivors(pipe))


def test_the_best_of_as_many_candidates_as_particles_survives() -> None:
    for seed in range(5):
        pipe = run("selection.temper=none", "selection.resample=1.0", "scoring.window=1", seed=seed)
        best = max(pipe.tree.chunk(0), key=lambda node: node.score)
        assert best.rank == 0


def test_without_clean_passes_for_copies_it_costs_less(tmp_path: Path) -> None:
    prices = "adapter.prices=[4]"
    sharp, blind = run(SHARP, prices), run("selection.strength=0", prices)
    assert sharp.last_run.cost.forwards == blind.last_run.cost.forwards - sum(4 - each for each in survivors(sharp))


def test_a_chunk_without_a_valid_candidate_is_survived() -> None:
    pipe = run(SHARP, "rewards.short.picky={options: {ordinals: [0, 1, 2, 3]}}")
    assert [note for note in pipe.tree.notes if "no valid candidate" in note]
    assert set(widths(pipe)) == {4}
    assert survivors(pipe)[1] == 1


def test_a_funnel_multiplies() -> None:
    pipe = run(SHARP, "search.candidates=2", "search.top_k=2", "width=funnel")
    assert sum(widths(pipe)) == 4 * CHUNKS
    assert widths(pipe)[0] > 4 > widths(pipe)[-1]


def test_rounds_share_what_the_particles_have() -> None:
    pipe = run(SHARP, "search.candidates=2", "search.top_k=2", "revision=refine")
    assert set(widths(pipe)) == {4}
    assert {node.round for node in pipe.tree} == {0, 1}


def test_a_chunk_that_is_made_anew_is_drawn_from_anew() -> None:
    """Going back leaves the candidates of the failed attempt out of the draw."""
    falls = "rewards.long={scripted: {options: {levels: [5, 5, 5, 0, 5]}}}"
    pipe = run(SHARP, "rewards.replace=true", falls, "revision={name: backtrack, window: 2, times: 1}")
    assert pipe.tree.abandoned()
    assert set(widths(pipe)) == {4}
    smc = Smc(strength=200.0)
    for index in range(1, CHUNKS):
        copies = smc._before(pipe.last_run, Chunk(index, CHUNKS)).copies
        assert Counter(node.parent for node in pipe.tree.chunk(index)) == copies


def test_a_budget_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"'smc' a beam may stand for several.*Use width=fixed, width=funnel or sel"):
        resolve("smc", "toy", overrides=["width={name: budget, forwards: 99}"])
    given: Any = {"width": Budget(forwards=99)}
    with pytest.raises(RecipeError, match="width: 'Budget' counts beams"):
        streamt1.wrap(ToyPipeline(), "smc", policies=given)


def test_rewards_that_mean_nothing_across_chunks_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"cannot be used with selection 'smc'.*or selection=top_k"):
        run("memory=fixed", "rewards.long={bright: {calibration: rank}}")


@pytest.mark.parametrize("stop", [0, 3, CHUNKS - 2])
@pytest.mark.parametrize("overrides", [(SHARP,), ("selection.resample=0.9",)], ids=["drawn", "carried"])
def test_a_resumed_run_draws_as_the_whole_one(tmp_path: Path, stop: int, overrides: tuple[str, ...]) -> None:
    full = run(*overrides, observers=record_to(tmp_path / "full"))
    with pytest.raises(KeyboardInterrupt):
        run(*overrides, observers={**record_to(tmp_path / "cut"), "stop": StopAfter(stop)})
    again = open_interrupted(tmp_path / "cut", ToyPipeline())
    assert torch.equal(again.complete(again.last_run), full.video)
    assert plain(again.tree.to_dict()) == plain(full.tree.to_dict())


def test_a_branch_by_hand_is_given_all_particles(tmp_path: Path) -> None:
    full = run(SHARP, observers=record_to(tmp_path / "full"))
    node = next(each for each in full.tree.chunk(2) if each.fate == "pruned")
    pipe = branch(tmp_path / "full", node.id, tmp_path / "new", ToyPipeline())
    pipe.complete(pipe.last_run)
    assert widths(pipe)[3:] == [4] * (CHUNKS - 3)
    assert {each.parent for each in pipe.tree.chunk(3)} == {node.id}


class TestSmc(PolicyContract):
    kind = "selection"

    def make_policy(self) -> Smc:
        return Smc(strength=9.0)
