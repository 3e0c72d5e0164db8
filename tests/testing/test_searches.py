"""Comparisons of searches: a failure names the chunk, the node and the field that differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.testing.searches import Kept, StopAfter, check_nodes, check_run, explained
from tests.toy import ToyPipeline


def searched(seed: int = 0, **observers: object) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), overrides=[f"seed={seed}"], observers=observers)
    pipe("a prompt")
    return pipe


def test_the_same_search_is_the_same() -> None:
    check_run(searched().last_run, searched().last_run, "the second one")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": 7.0}, r"node 000\.01 differs, .*'score': \(7\.0, "),
        ({"seed": 1}, r"node 000\.01 differs, .*'seed': \(1, "),
    ],
)
def test_a_node_that_differs_is_named(change: dict[str, Any], message: str) -> None:
    one, other = searched(), searched()
    one.tree.add(replace(one.tree.nodes["000.01"], **change))
    with pytest.raises(AssertionError, match=message):
        check_nodes(one.tree, other.tree, "the second one")


def test_other_winners_latents_and_costs_are_named() -> None:
    one, other = searched(), searched()
    one.last_run.cost.forwards += 1
    with pytest.raises(AssertionError, match=r"mine cost .*'forwards': 17"):
        check_run(one.last_run, other.last_run, "mine")
    one.last_run.beams[0].history.latents[2].add_(1)
    with pytest.raises(AssertionError, match="mine: the latents of chunk 2: not equal"):
        check_run(one.last_run, other.last_run, "mine")
    one.tree.winner = ("000.00",)
    with pytest.raises(AssertionError, match="mine: winner"):
        check_run(one.last_run, other.last_run, "mine")
    with pytest.raises(AssertionError, match="mine: node"):
        check_run(searched(seed=1).last_run, other.last_run, "mine")


def test_a_failure_begins_with_what_was_compared() -> None:
    with pytest.raises(AssertionError, match=r"^the video: not equal"), explained("the video"):
        raise AssertionError("not equal")


def test_a_search_is_stopped_where_it_is_wanted_and_its_candidates_are_kept() -> None:
    kept = Kept()
    with pytest.raises(KeyboardInterrupt):
        searched(stop=StopAfter(1), kept=kept)
    assert sorted(kept.frames) == sorted(kept.latents) == [f"00{chunk}.0{row}" for chunk in (0, 1) for row in range(4)]
