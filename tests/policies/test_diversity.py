"""Diverse survivors: the trade of score against distance, on numbers and in searches."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.types import Chunk, Node, Reading
from streamt1_plugins.policies.diversity import Diverse, distances, spread_out
from streamt1_plugins.policies.selection import top_k
from streamt1_plugins.testing import PolicyContract
from tests.toy import ToyPipeline


@pytest.mark.parametrize(
    ("scores", "places", "k", "diversity", "chosen"),
    [
        ((3, 2, 1), (0, 1, 5), 2, 0.0, [0, 1]),  # top-k
        ((3, 2, 1), (0, 1, 5), 2, 1.0, [0, 2]),  # the best and the farthest
        ((3, 2, 1), (0, 1, 5), 2, 0.5, [0, 2]),  # 0.25 + 0.1 against 0 + 0.5
        ((3, 2, 1), (0, 1, 5), 2, 0.3, [0, 1]),  # 0.35 + 0.06 against 0 + 0.3
        ((3, 2.9, 2.8, 0), (0, 0, 4, 9), 3, 0.8, [0, 3, 2]),  # what is near one of the chosen adds nothing
        ((1, 3, 2), (0, 0, 0), 2, 1.0, [1, 2]),  # no distances: the scores' order
        ((1, 1, 1), (0, 1, 2), 2, 0.5, [0, 2]),  # no scores
        ((1, 2), (0, 1), 5, 0.5, [1, 0]),
    ],
)
def test_each_is_chosen_for_its_score_and_its_distance(
    scores: tuple[float, ...], places: tuple[float, ...], k: int, diversity: float, chosen: list[int]
) -> None:
    assert spread_out(scores, distances([[float(place)] for place in places]), k, diversity) == chosen


def test_distances_are_those_of_space() -> None:
    assert distances([[0.0, 0.0], [3.0, 4.0]]) == [[0.0, 5.0], [5.0, 0.0]]
    assert distances([[], []]) == [[0.0, 0.0], [0.0, 0.0]]


def judged(*values: tuple[float, float, float]) -> list[Any]:
    """Candidates of (score, a short reading, a long one that has no weight)."""
    return [
        Node(
            chunk=0,
            ordinal=ordinal,
            parent=None,
            seed=0,
            score=score,
            readings={"short": {"a": Reading(short, short)}, "long": {"b": Reading(long, long, weight=0.0)}},
        )
        for ordinal, (score, short, long) in enumerate(values)
    ]


def selected(policy: Diverse, candidates: list[Any], k: int = 2, chunk: int = 0) -> list[int]:
    run: Any = SimpleNamespace(recipe=SimpleNamespace(search=SimpleNamespace(top_k=k)))
    return [each.ordinal for each in policy.streamt1_select(run, Chunk(chunk, 4), candidates)]


def test_readings_with_a_weight_are_compared() -> None:
    by = Diverse(diversity=1.0, by="rewards")
    assert selected(by, judged((3, 0.0, 9.0), (2, 0.1, -9.0), (1, 0.5, 9.0))) == [0, 2]
    assert selected(by, judged((3, 0.0, 0.0), (2, math.nan, 0.0), (1, 0.5, 0.0))) == [0, 2]


def test_the_last_chunk_and_one_with_room_for_all_keep_the_best() -> None:
    by, candidates = Diverse(diversity=1.0, by="rewards"), judged((1, 0.0, 0.0), (3, 0.0, 0.0), (2, 0.1, 0.0))
    assert selected(by, candidates, k=3) == [1, 2, 0]
    assert selected(by, candidates, chunk=3) == [1, 2]


def run(*overrides: str, recipe: str = "diverse") -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides)
    pipe.video = pipe("a prompt", chunks=6)
    return pipe


def test_no_diversity_is_top_k() -> None:
    ours, theirs = run("selection.diversity=0"), run("search.candidates=4", recipe="stream-t1")
    assert torch.equal(ours.video, theirs.video)
    assert [node.rank for node in ours.tree] == [node.rank for node in theirs.tree]


class Latents:
    """Keeps the latents of every candidate."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    @streamt1.hookimpl
    def streamt1_candidate_scored(self, candidate: streamt1.Candidate) -> None:
        self.found[candidate.id] = candidate.features


def test_survivors_lie_further_apart_and_the_best_is_among_them() -> None:
    apart: dict[float, float] = {}
    for diversity in (0.0, 1.0):
        seen = Latents()
        overrides = [f"selection.diversity={diversity}", "noise.sigma=0"]
        pipe = streamt1.wrap(ToyPipeline(), "diverse", overrides=overrides, observers={"seen": seen})
        pipe("a prompt", chunks=2)
        first = pipe.tree.kept(0)
        assert [node.ordinal for node in first[:1]] == [top_k(pipe.tree.chunk(0), 1)[0].ordinal]
        apart[diversity] = float((seen.found[first[0].id] - seen.found[first[1].id]).norm())
        others = [each for each in pipe.tree.chunk(0) if each.id != first[0].id]
        farthest = max(float((seen.found[first[0].id] - seen.found[each.id]).norm()) for each in others)
    assert apart[1.0] == pytest.approx(farthest)
    assert apart[1.0] > apart[0.0]


class TestDiverse(PolicyContract):
    kind = "selection"

    def make_policy(self) -> Diverse:
        return Diverse(diversity=0.7)
