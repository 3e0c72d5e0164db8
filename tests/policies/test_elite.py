"""The first sink gives way to a better chunk."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.api.adapter import Decoded, History
from streamt1_plugins.api.candidate import Beam, Candidate
from streamt1_plugins.api.types import Node
from streamt1_plugins.policies.elite import Elite, anchor
from tests.toy import ToyPipeline

NAN = float("nan")


def node(chunk: int, short: float, route: str | None = None) -> Node:
    return Node(chunk=chunk, ordinal=0, parent=None, seed=0, short=short, long=-short, route=route)


def candidate(path: tuple[Node, ...], short: float) -> Candidate:
    empty = torch.zeros(0)
    fields = {"noise": empty, "latents": empty, "decoded": Decoded(empty), "beam": Beam(History(), path)}
    return Candidate(chunk=len(path), ordinal=0, parent=path[-1].id, seed=0, short=short, long=-short, **fields)  # type: ignore[arg-type]


def test_the_anchor_is_the_newest_chunk_that_replaced_it() -> None:
    path = [node(0, 0.0), node(1, 1.0, "replace"), node(2, 0.5, "discard")]
    assert anchor(path) is path[1]
    assert anchor(path[:1]) is path[0]


@pytest.mark.parametrize(
    ("policy", "short", "expected"),
    [
        (Elite(), 0.6, "replace"),
        (Elite(), 0.5, "discard"),
        (Elite(margin=0.2), 0.6, "discard"),
        (Elite(otherwise="ema"), 0.4, "ema"),
        (Elite(by="long"), 0.4, "replace"),
        (Elite(), NAN, "discard"),
    ],
)
def test_a_better_chunk_replaces_the_anchor(policy: Elite, short: float, expected: str) -> None:
    path = (node(0, 0.1), node(1, 0.5, "replace"))
    assert policy.streamt1_route_memory(candidate(path, short)) == expected


def test_a_search_records_the_routes() -> None:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=["memory=elite"])
    pipe("a prompt")
    path: list[Any] = list(pipe.tree.path(pipe.tree.winner[-1]))
    routes = [each.route for each in path[1:]]
    assert set(routes) <= {"replace", "discard"}
    for index, each in enumerate(path[1:], 1):
        assert (each.route == "replace") == (each.short > anchor(path[:index]).short)
