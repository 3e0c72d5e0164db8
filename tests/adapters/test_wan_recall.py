"""Recall: which appended sinks the next chunk reads."""

from __future__ import annotations

import pytest
import torch

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_wan.memory import Block, Memory
from streamt1_wan.recall import likeness, recalled
from streamt1_wan.rope import Rope, rotate
from tests.adapters.tiny import seeded, tiny_transformer


@pytest.fixture(scope="module")
def rope() -> Rope:
    return Rope.of(tiny_transformer().rope, (2, 2), torch.device("cpu"))


def block(rope: Rope, place: int, content: torch.Tensor) -> Block:
    """A chunk of that content at latent frame `3 * place`."""
    key = rotate(content.expand(1, 12, 2, 12), rope.at(3 * place, 3))
    return Block((key,), (key,), 3 * place, 3)


def content(seed: int) -> torch.Tensor:
    return torch.randn(1, 1, 2, 12, generator=seeded(seed))


def test_age_does_not_count(rope: Rope) -> None:
    newest = block(rope, 9, content(1))
    assert likeness(newest, block(rope, 2, content(1)), rope) == pytest.approx(1.0, abs=1e-5)
    assert likeness(newest, block(rope, 2, -content(1)), rope) == pytest.approx(-1.0, abs=1e-5)
    assert abs(likeness(newest, block(rope, 2, content(2)), rope)) < 0.9


def memory(rope: Rope) -> Memory:
    """A first sink, four appended ones of which 2 and 4 look like the newest chunk, and a window."""
    kinds = [content(seed) for seed in (0, 7, 1, 8, 1)]
    sinks = tuple(block(rope, place, kind) for place, kind in enumerate(kinds))
    return Memory(sinks, (block(rope, 8, content(9)), block(rope, 9, content(1) + 0.1 * content(3))))


def places(found: Memory) -> list[int]:
    return [each.start // 3 for each in found.blocks]


def test_the_most_alike_are_read_in_order(rope: Rope) -> None:
    assert places(recalled(memory(rope), MemoryPlan(recall_chunks=2), rope)) == [0, 2, 4, 8, 9]
    assert places(recalled(memory(rope), MemoryPlan(recall_chunks=9), rope)) == [0, 1, 2, 3, 4, 8, 9]


def test_without_the_option_everything_is_read(rope: Rope) -> None:
    whole = memory(rope)
    assert recalled(whole, MemoryPlan(), rope) is whole
    assert recalled(Memory(), MemoryPlan(recall_chunks=1), rope).blocks == ()


def test_the_gate_leaves_out_other_scenes(rope: Rope) -> None:
    assert places(recalled(memory(rope), MemoryPlan(recall_chunks=4, recall_gate=0.9), rope)) == [0, 2, 4, 8, 9]
    assert places(recalled(memory(rope), MemoryPlan(recall_chunks=4, recall_gate=1.0), rope)) == [0, 8, 9]


def test_what_is_remembered_is_not_changed(rope: Rope) -> None:
    whole = memory(rope)
    recalled(whole, MemoryPlan(recall_chunks=1), rope)
    assert places(whole) == [0, 1, 2, 3, 4, 8, 9]
