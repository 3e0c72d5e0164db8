"""Blocks of keys and values: how they are averaged, at which position they are remembered, how they are laid out."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.api.routed_memory import evict, remember
from streamt1_plugins.api.types import MemoryRoute
from streamt1_wan.memory import Block, Memory, assembled, fold
from streamt1_wan.rope import Rope, rotate
from tests.adapters.tiny import seeded, tiny_transformer

FRAMES, ROWS, COLUMNS = 3, 2, 2
PLAN = MemoryPlan(window_chunks=2, max_sink_chunks=3, ema_decay=0.75)


@pytest.fixture(scope="module")
def rope() -> Rope:
    return Rope.of(tiny_transformer().rope, (ROWS, COLUMNS), torch.device("cpu"))


def plain_key(index: int) -> torch.Tensor:
    """The key of chunk `index` before it is rotated."""
    return torch.randn(1, FRAMES * ROWS * COLUMNS, 2, 12, generator=seeded(index))


def block(rope: Rope, index: int, route: MemoryRoute = "discard", dtype: torch.dtype = torch.float32) -> Block:
    key = rotate(plain_key(index), rope.at(index * FRAMES, FRAMES))
    value = torch.randn(key.shape, generator=seeded(100 + index))
    return Block((key.to(dtype),), (value.to(dtype),), index * FRAMES, FRAMES, route)


def run(rope: Rope, routes: list[MemoryRoute], plan: MemoryPlan = PLAN) -> Memory:
    memory = Memory()
    for index, route in enumerate(routes):
        memory = evict(remember(memory, block(rope, index, route), plan), plan, partial(fold, plan=plan, rope=rope))
    return memory


def starts(blocks: tuple[Block, ...]) -> list[int]:
    return [each.start // FRAMES for each in blocks]


def test_ema_mixes_keys_without_positions_into_the_newest_sink(rope: Rope) -> None:
    memory = run(rope, ["discard", "append", "ema", "discard"])
    assert starts(memory.sinks) == [0, 1]
    mixed = 0.75 * plain_key(1) + 0.25 * plain_key(2)
    expected = rotate(mixed, rope.at(1 * FRAMES, FRAMES))
    torch.testing.assert_close(memory.sinks[1].keys[0], expected, atol=1e-5, rtol=0)
    values = 0.75 * block(rope, 1).values[0] + 0.25 * block(rope, 2).values[0]
    torch.testing.assert_close(memory.sinks[1].values[0], values, atol=1e-6, rtol=0)
    assert torch.equal(memory.sinks[0].keys[0], block(rope, 0).keys[0])


def test_append_when_full_becomes_ema(rope: Rope) -> None:
    memory = run(rope, ["discard", "append", "append", "append", "discard"])
    assert starts(memory.sinks) == [0, 1, 2]
    mixed = rotate(0.75 * plain_key(2) + 0.25 * plain_key(3), rope.at(2 * FRAMES, FRAMES))
    torch.testing.assert_close(memory.sinks[2].keys[0], mixed, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("precision", "moves"), [("float32", True), ("model", False)])
def test_moving_average_in_bfloat16(rope: Rope, precision: str, moves: bool) -> None:
    """At a decay of 0.999 most elements of a bfloat16 sink do not move at all; a float32 sink does."""
    plan = MemoryPlan(ema_decay=0.999, sink_precision=precision)  # type: ignore[arg-type]
    sink, leaving = block(rope, 0, dtype=torch.bfloat16), block(rope, 1, dtype=torch.bfloat16)
    folded = fold(sink, leaving, plan, rope)
    assert folded.values[0].dtype == (torch.float32 if moves else torch.bfloat16)
    changed = (folded.values[0].float() != sink.values[0].float()).float().mean()
    assert changed > 0.95 if moves else changed < 0.5


def test_shift_in_time_is_exact_in_both_directions(rope: Rope) -> None:
    key = plain_key(0)
    for start, shift in ((12, -9), (3, 9), (6, 0)):
        turned = rotate(rotate(key, rope.at(start, FRAMES)), rope.by(shift))
        torch.testing.assert_close(turned, rotate(key, rope.at(start + shift, FRAMES)), atol=1e-5, rtol=0)


def test_rotation_is_the_transformers_own(rope: Rope) -> None:
    cos, sin = tiny_transformer().rope(torch.zeros(1, 16, 6, ROWS * 2, COLUMNS * 2))
    last = slice(FRAMES * ROWS * COLUMNS, None)
    ours = rope.at(FRAMES, FRAMES)
    assert torch.equal(ours.cos, cos[:, last, :, 0::2])
    assert torch.equal(ours.sin, sin[:, last, :, 1::2])


def test_assembled_order_and_dtype(rope: Rope) -> None:
    memory = Memory((block(rope, 0),), (block(rope, 1), block(rope, 2)))
    ((key, value),) = assembled(memory, 5, torch.bfloat16)
    assert key.dtype == value.dtype == torch.bfloat16
    assert torch.equal(value[:, :-5], torch.cat([b.values[0] for b in memory.blocks], dim=1).bfloat16())
    assert assembled(Memory(), 5, torch.float32) == []
