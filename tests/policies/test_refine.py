"""Later rounds vary the best of the first, for the forwards of one round."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.types import EARLY, Node
from streamt1_plugins.plugins import build
from streamt1_plugins.policies.refine import Refine, best_of_each
from streamt1_plugins.search.cost_estimate import describe
from streamt1_plugins.testing.policy import PolicyContract
from tests.toy import SteppingAdapter, ToyPipeline


def searched(*overrides: str) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides)
    pipe("a prompt")
    return pipe


def node(ordinal: int, score: float, parent: str | None = None, **more: Any) -> Node:
    return Node(chunk=1, ordinal=ordinal, parent=parent, seed=0, score=score, readings={"short": {"a": None}}, **more)  # type: ignore[dict-item]


def test_the_best_of_every_parent_is_varied() -> None:
    nodes = [node(0, 1.0, "a"), node(1, 2.0, "a"), node(2, 3.0, "a", problem="odd"), node(3, 0.5, "b")]
    assert best_of_each(nodes) == ["001.01", "001.03"]
    assert best_of_each(nodes[2:]) == ["001.02", "001.03"]  # nothing else is there
    assert best_of_each([node(0, 1.0, stage=EARLY)]) == []


@pytest.mark.parametrize(
    ("candidates", "rounds", "made"), [(4, 2, [4, 4]), (5, 2, [6, 4]), (2, 3, [2, 2]), (7, 3, [6, 4, 4])]
)
def test_the_rounds_share_the_width(candidates: int, rounds: int, made: list[int]) -> None:
    pipe = searched(f"search.candidates={candidates}", f"revision={{name: refine, rounds: {rounds}}}")
    plain = searched(f"search.candidates={candidates}")
    found = [node.round for node in pipe.tree.chunk(2)]
    assert [found.count(number) for number in range(max(found) + 1)] == made
    assert pipe.last_run.cost.forwards == plain.last_run.cost.forwards
    assert pipe.last_run.cost.candidates == plain.last_run.cost.candidates == pipe.cost(prompt="a prompt").candidates


def test_the_first_round_is_the_beginning_of_a_search_in_one_round() -> None:
    refined, plain = searched("search.candidates=4", "revision=refine").tree, searched("search.candidates=4").tree
    assert [each.seed for each in refined.chunk(0)] == [each.seed for each in plain.chunk(0)]


def test_a_varied_candidate_is_as_far_from_the_best_as_b_has_it() -> None:
    noise: dict[str, torch.Tensor] = {}

    class Noise:
        @streamt1.hookimpl
        def streamt1_candidate_scored(self, candidate: Any) -> None:
            noise[candidate.id] = candidate.noise

    overrides = ["search.candidates=60", "search.top_k=1", "revision={name: refine, b: 0.6}", "noise.sigma=0"]
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides, observers={"noise": Noise()})
    pipe("a prompt", chunks=1)
    varied = [each for each in pipe.tree if each.varies]
    assert len({each.varies.of for each in varied if each.varies}) == 1
    old = torch.cat([noise[each.varies.of] for each in varied if each.varies]).flatten()
    new = torch.cat([noise[each.id] for each in varied]).flatten()
    assert float((new - 0.8 * old).std()) == pytest.approx(0.6, abs=0.05)


def test_a_budget_is_kept_with_rounds() -> None:
    budget = ("adapter.prices=[5, 2]", "width={name: budget, forwards: 90, agree: 0, drift: 1000}")
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=[*budget, "search.candidates=4", "revision=refine"])
    pipe("a prompt", chunks=6)
    assert 60 < pipe.last_run.cost.forwards <= 90
    assert any(node.round for node in pipe.tree)


def test_the_estimate_is_that_of_a_search_in_one_round() -> None:
    def line(*overrides: str) -> str:
        recipe = streamt1.wrap(ToyPipeline(), "stream-t1", adapter="toy-steps", overrides=overrides).recipe
        return describe(recipe, SteppingAdapter(), build.rewards(recipe), policies=build.policies(recipe))

    plain, refined = line(), line("revision=refine").splitlines()[1]
    assert refined.removeprefix("       at most ").split(", ")[:2] == plain.split(", ")[:2]


class TestRefine(PolicyContract):
    kind = "revision"

    def make_policy(self) -> Refine:
        return Refine()
