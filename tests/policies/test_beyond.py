"""Search beyond the paper on the toy pipeline: diversity, accumulated scores, one horizon alone; none of it unasked."""

from __future__ import annotations

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.policies.scoring import hybrid
from tests.toy import ToyPipeline

WIDE = ("search.candidates=4", "search.top_k=2")


def run(*overrides: str, recipe: str = "stream-t1") -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides)
    pipe.video = pipe("a prompt", chunks=6)
    return pipe


def parents(pipe: streamt1.StreamPipeline) -> list[set[str | None]]:
    """The parents of the survivors of every chunk but the first."""
    return [{node.parent for node in pipe.tree.chunk(i) if node.fate == "kept"} for i in range(1, 6)]


def test_a_quota_keeps_both_beams_alive() -> None:
    assert any(len(each) == 1 for each in parents(run(*WIDE)))  # without one, a parent sometimes takes both places
    diverse = run(*WIDE, "selection.per_parent=1")
    assert all(len(each) == 2 for each in parents(diverse))
    for index in range(6):
        best = max(diverse.tree.chunk(index), key=lambda node: node.score)
        assert best.rank == 0


def test_a_quota_that_cannot_be_met_still_fills_every_place() -> None:
    pipe = run("search.candidates=4", "search.top_k=3", "selection.per_parent=1")
    assert all(sum(node.fate == "kept" for node in pipe.tree.chunk(i)) == 3 for i in range(6))
    nobody_else = run(*WIDE, "selection.per_parent=1", "rewards.short={picky: {options: {ordinals: [4, 5, 6, 7]}}}")
    kept = [node for node in nobody_else.tree.chunk(1) if node.fate == "kept"]
    assert len(kept) == 2
    assert len({node.parent for node in kept}) == 1


@pytest.mark.parametrize("window", ["1", "3", "null"])
def test_a_score_is_the_mean_over_the_path(window: str) -> None:
    pipe = run(*WIDE, f"scoring.window={window}")
    for node in pipe.tree:
        path = pipe.tree.path(node.id)
        own = [hybrid(each.short, each.long, each.chunk / 5, 0.4) for each in path]
        counted = own if window == "null" else own[-int(window) :]
        assert node.score == pytest.approx(sum(counted) / len(counted))


def test_the_options_are_off_unless_asked_for() -> None:
    pipe = run()
    off = run("scoring.window=1", "scoring.decay=0.5", "scoring.horizon=both", "selection.per_parent=null")
    assert torch.equal(pipe.video, off.video)
    assert [node.score for node in pipe.tree] == [node.score for node in off.tree]
    assert pipe.recipe.scoring.options == {"cap": 0.4, "horizon": "both", "window": 1, "decay": 1.0}
    assert pipe.recipe.selection.options == {"per_parent": None}


@pytest.mark.parametrize("horizon", ["short", "long"])
def test_one_horizon_decides_and_both_are_measured(horizon: str) -> None:
    pipe = run(recipe=f"{horizon}-only")
    assert all(node.score == getattr(node, horizon) for node in pipe.tree)
    assert all(node.readings["short"] and node.readings["long"] for node in pipe.tree)
    assert bool(pipe.tree.final) == (horizon == "long")
    assert pipe.recipe.memory.name == "reward_feedback"


def test_an_ablation_changes_one_unit() -> None:
    assert not any(node.propagated for node in run(recipe="no-noise").tree)
    assert {node.route for node in run(recipe="no-sinking").tree if node.chunk} == {"discard"}
    assert {node.route for node in run(recipe="no-noise").tree if node.chunk} != {"discard"}
    assert any(node.propagated for node in run(recipe="no-sinking").tree)


def test_a_close_call_under_a_quota_is_one_between_equals() -> None:
    pipe = run(*WIDE, "selection.per_parent=1", "search.batch=4")
    assert not [note for note in pipe.tree.notes if "close call" in note]
