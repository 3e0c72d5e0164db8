"""Rewards in stages: who goes on, what is recorded of those who do not, and what that saves."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from tests.toy import Bright, ToyPipeline


class Dear(Bright):
    """An expensive reward on the long horizon: how many candidates it was shown, chunk by chunk."""

    def score(self, inp: Any) -> Any:
        self.calls.append(tuple(ids[-1][0] for ids in inp.frame_ids))
        return streamt1.RewardOutput(1 - inp.video.mean((1, 2, 3, 4)))


def run(*overrides: str, dear: streamt1.Reward | None = None) -> tuple[streamt1.StreamPipeline, list[Any]]:
    settings = ("rewards={replace: true, short: {bright: {}}, long: {dear: {stage: 2}}}", "search.candidates=4")
    reward = dear or Dear()
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[*settings, *overrides], rewards={"dear": reward})
    pipe("a prompt")
    return pipe, reward.calls  # type: ignore[attr-defined]


def test_only_the_best_of_the_first_stage_reach_the_second() -> None:
    pipe, shown = run()
    for index in range(4):
        nodes = pipe.tree.chunk(index)
        ranked = sorted(nodes, key=lambda node: -node.readings["short"]["bright"].value)
        assert {node.id for node in ranked[:4]} == set(shown[index])
        assert [node.stage for node in ranked] == [None] * 4 + [1] * 4


def test_those_left_behind_are_pruned_and_have_no_later_readings() -> None:
    pipe, _ = run()
    behind = [node for node in pipe.tree if node.stage == 1]
    assert len(behind) == 16
    assert {(node.fate, node.problem, node.route) for node in behind} == {("pruned", None, None)}
    assert all(set(node.readings) == {"short"} and math.isnan(node.long + node.score) for node in behind)
    assert all(math.isfinite(node.short) for node in behind)
    records = {node["id"]: node["stage"] for node in pipe.tree.to_dict()["nodes"]}
    assert {records[node.id] for node in behind} == {1}


def test_what_a_cascade_saves_is_in_the_cost() -> None:
    pipe, shown = run()
    cost = pipe.last_run.cost
    assert sum(map(len, shown[:4])) == 16
    assert (cost.readings, cost.readings_saved) == (32 + 16 + 2, 16)  # and the two whole videos at the end


@pytest.mark.parametrize(("keep", "count"), [(0.01, 2), (0.3, 3), (0.5, 4), (1.0, 8)])
def test_never_fewer_go_on_than_can_survive(keep: float, count: int) -> None:
    pipe, shown = run(f"rewards.keep={keep}")
    assert {len(ids) for ids in shown[:4]} == {count}
    assert all(sum(node.fate == "kept" for node in pipe.tree.chunk(index)) == 2 for index in range(4))


def test_keeping_everybody_is_no_cascade() -> None:
    pipe, _ = run("rewards.keep=1")
    plain, _ = run("rewards.long.dear.stage=1")
    assert [(n.score, n.fate) for n in pipe.tree] == [(n.score, n.fate) for n in plain.tree]


def test_the_expensive_reward_is_not_asked_about_invalid_candidates() -> None:
    pipe, shown = run("rewards.short.picky={options: {ordinals: [0, 1, 2, 3, 4]}}")
    assert len(shown[1]) == 2  # half of the three that are left, and as many as can survive
    assert [node.fate for node in pipe.tree.chunk(1)[:5]] == ["invalid"] * 5


def test_when_nobody_is_left_for_a_later_stage_the_first_goes_on() -> None:
    pipe, shown = run("rewards.short.picky={options: {ordinals: [0, 1, 2, 3, 4, 5, 6, 7]}}")
    assert not any(ids[0].startswith("001.") for ids in shown[:-1])
    assert pipe.tree.chunk(1)[0].fate == "kept"
    assert len(pipe.tree.winner) == 4


def test_a_veto_comes_before_the_next_stage() -> None:
    free, _ = run()
    raws = sorted(node.readings["short"]["bright"].raw for node in free.tree.chunk(0))
    pipe, shown = run(f"rewards.short.bright.veto={(raws[5] + raws[6]) / 2}")
    assert len(shown[0]) == 2
    assert sum("Vetoed" in (node.problem or "") for node in pipe.tree.chunk(0)) == 6


def test_equal_candidates_go_on_in_their_order() -> None:
    class Indifferent(Bright):
        def score(self, inp: Any) -> Any:
            return streamt1.RewardOutput(torch.ones(len(inp.prompts)))

    pipe = streamt1.wrap(
        ToyPipeline(),
        overrides=["rewards={replace: true, short: {even: {}}, long: {bright: {stage: 2}}}"],
        rewards={"even": Indifferent()},
    )
    pipe("a prompt")
    assert [node.stage for node in pipe.tree.chunk(1)] == [None, None, 1, 1]


def test_stages_need_not_be_numbered_without_gaps() -> None:
    pipe, shown = run("rewards.long.dear.stage=7")
    assert {len(ids) for ids in shown[:4]} == {4}
    assert {node.stage for node in pipe.tree} == {None, 1}


def test_when_the_second_stage_fails_on_all_it_sees_one_left_behind_goes_on() -> None:
    class Broken(Dear):
        def score(self, inp: Any) -> Any:
            super().score(inp)
            return streamt1.RewardOutput(torch.full((len(inp.prompts),), math.nan))

    pipe, _ = run(dear=Broken())
    for index in range(4):
        nodes = pipe.tree.chunk(index)
        (kept,) = [node for node in nodes if node.fate == "kept"]
        assert kept.id == next(node.id for node in nodes if node.stage == 1)
    assert "no valid candidate (Reward 'dear' gave a value that is not finite.)" in pipe.tree.notes[0]
