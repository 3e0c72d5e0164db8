"""Blocks of keys and values: how they are averaged, at which position they are remembered, how they are laid out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from streamt1_plugins.api.adapter import Decoded, History, MemoryPlan
from streamt1_plugins.api.routed_memory import FURTHER, PAPER, remember
from streamt1_plugins.api.types import MemoryRoute
from streamt1_plugins.errors import InputError
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.memory import Block, Memory, assembled, check_positions, fold, placed, with_room
from streamt1_wan.rope import Rope, rotate
from tests.adapters.tiny import seeded, tiny_pipeline, tiny_transformer

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
        memory = with_room(remember(memory, block(rope, index, route), plan), plan, rope)
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
    ((key, value),) = assembled(memory.blocks, 5, torch.bfloat16)
    assert key.dtype == value.dtype == torch.bfloat16
    assert torch.equal(value[:, :-5], torch.cat([b.values[0] for b in memory.blocks], dim=1).bfloat16())
    assert assembled((), 5, torch.float32) == []


def test_a_pair_averages_at_two_rates(rope: Rope) -> None:
    plan = MemoryPlan(sink_chunks=3, window_chunks=1, pair_decays=(0.9, 0.25))
    memory = run(rope, ["discard", "discard", "discard", "ema_pair", "discard"], plan)
    for sink, decay in ((1, 0.9), (2, 0.25)):
        values = decay * block(rope, sink).values[0] + (1 - decay) * block(rope, 3).values[0]
        torch.testing.assert_close(memory.sinks[sink].values[0], values, atol=1e-6, rtol=0)
        mixed = rotate(decay * plain_key(sink) + (1 - decay) * plain_key(3), rope.at(sink * FRAMES, FRAMES))
        torch.testing.assert_close(memory.sinks[sink].keys[0], mixed, atol=1e-5, rtol=0)
    assert memory.sinks[0].keys[0] is not None
    assert torch.equal(memory.sinks[0].keys[0], block(rope, 0).keys[0])


def test_placed_blocks_are_in_a_row(rope: Rope) -> None:
    blocks = (block(rope, 0), block(rope, 4), block(rope, 5))
    found = placed(blocks, rope)
    assert starts(found) == [0, 1, 2]
    assert found[0] is blocks[0]
    for place, index in enumerate((0, 4, 5)):
        expected = rotate(plain_key(index), rope.at(place * FRAMES, FRAMES))
        torch.testing.assert_close(found[place].keys[0], expected, atol=1e-5, rtol=0)
        assert torch.equal(found[place].values[0], blocks[place].values[0])


CALL = {"prompt": "a red circle", "height": 32, "width": 32, "max_sequence_length": 16}
FLAT = Decoded(torch.zeros(1, 3, 8, 8))


def opened(plan: MemoryPlan, chunks: int, **options: Any) -> Any:
    adapter = CausalWanAdapter(timesteps=(1000,), **options)
    return adapter.open(tiny_pipeline(), {**CALL, "num_frames": 12 * chunks - 3}, plan)


def size(history: History) -> int:
    """Bytes of the memory, each storage once."""
    tensors = [tensor for each in history.memory.blocks for tensor in (*each.keys, *each.values)]
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values())


@pytest.mark.parametrize("route", sorted(PAPER | FURTHER))
def test_200_chunks_take_no_more_memory_than_20(route: MemoryRoute) -> None:
    session = opened(MemoryPlan(), 200, positions="relative")
    history, noise, sizes = session.root(), torch.randn(1, 16, 3, 4, 4, generator=seeded(0)), []
    for _ in range(199):
        before = history
        history = session.commit(History(before.index, memory=before.memory), noise, FLAT, route)
        sizes.append(size(history))
    session.close()
    assert max(sizes[20:]) <= max(sizes[:20])


def test_a_video_of_1100_latent_frames_fits_64_positions() -> None:
    session = opened(MemoryPlan(max_sink_chunks=3), 367, positions="relative")
    noise = torch.randn(1, 16, 3, 4, 4, generator=seeded(1))
    history = session.root()
    for index in range(366):
        route = ("append", "ema", "replace", "ema_pair")[index % 4]
        history = session.commit(History(index, memory=history.memory), noise, FLAT, route)
    late = session.generate(history, noise, [seeded(0)])
    early = session.generate(History(5, memory=history.memory), noise, [seeded(0)])
    session.close()
    assert torch.isfinite(late).all()
    assert torch.equal(early, late)  # nothing counts from the start


def test_relative_positions_equal_absolute_ones_until_a_chunk_leaves() -> None:
    noises = [torch.randn(1, 16, 3, 4, 4, generator=seeded(seed)) for seed in range(5)]
    made: dict[str, list[torch.Tensor]] = {}
    for positions in ("absolute", "relative"):
        session = opened(MemoryPlan(), 6, positions=positions)
        history, made[positions] = session.root(), []
        for noise in noises:
            made[positions].append(session.generate(history, noise, [seeded(0)]))
            history = session.commit(history, made[positions][-1], FLAT, "discard")
        session.close()
    equal = [torch.equal(*pair) for pair in zip(made["absolute"], made["relative"], strict=True)]
    assert equal == [True, True, True, True, False]  # the sink and the window of 3 hold the first three past chunks


def test_absolute_positions_end_where_the_model_has_none() -> None:
    with pytest.raises(InputError, match="positions for 64"):
        opened(MemoryPlan(), 22)
    with pytest.raises(InputError, match="reaches 66 latent frames"):
        opened(MemoryPlan(max_sink_chunks=19), 100, positions="relative")
    check_positions(MemoryPlan(max_sink_chunks=19, recall_chunks=4), 100, 3, 64)
