"""The route rule, and that the KV memory, the page's memory strip and the memory estimate agree on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamt1_plugins import MemoryPlan
from streamt1_plugins.api.routed_memory import FURTHER, PAPER, RoutedMemory, capacity, evict, paired, remember, replaced
from streamt1_plugins.runs.report.memory import timeline
from streamt1_wan.memory import Block, Memory, with_room

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamt1_plugins.api.types import MemoryRoute

ROUTES: tuple[MemoryRoute, ...] = tuple(sorted(PAPER | FURTHER))
PLANS = st.builds(
    MemoryPlan,
    sink_chunks=st.integers(1, 4),
    window_chunks=st.integers(1, 4),
    max_sink_chunks=st.integers(1, 6),  # also below `sink_chunks`
    ema_decay=st.just(0.5),
)
PATHS = st.lists(st.sampled_from(ROUTES), max_size=20)


@dataclass(frozen=True)
class Chunk:
    """A block whose contents are the chunks in it."""

    members: tuple[int, ...]
    route: MemoryRoute | None = "discard"


def merged(sink: Chunk, leaving: Chunk) -> Chunk:
    return Chunk(sink.members + leaving.members, sink.route)


def routed(memory: Any, plan: MemoryPlan) -> Any:
    further = {"replace": replaced, "ema_pair": partial(paired, folds=(merged, merged))}
    return evict(memory, plan, merged, further)


def walk(
    routes: list[MemoryRoute], plan: MemoryPlan, make: Callable[[int, MemoryRoute], Any], leave: Any = routed
) -> list[Any]:
    """The memory while each chunk is made."""
    memories: list[Any] = [RoutedMemory()]
    for index, route in enumerate(routes[:-1]):
        memories.append(leave(remember(memories[-1], make(index, route), plan), plan))
    return memories


def held(routes: list[MemoryRoute], **plan: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The members of (sinks, window) while the chunk after `routes` is made."""
    last = walk([*routes, "discard"], MemoryPlan(**plan), lambda index, route: Chunk((index,), route))[-1]
    return [each.members for each in last.sinks], [each.members for each in last.window]


def test_first_chunks_are_sinks_whatever_their_route() -> None:
    assert held(["append", "ema"], sink_chunks=2, window_chunks=2) == ([(0,), (1,)], [])


def test_discard_leaves_a_sink_and_a_window() -> None:
    assert held(["discard"] * 6, window_chunks=2) == ([(0,)], [(5,)])


def test_a_route_acts_when_its_chunk_leaves() -> None:
    assert held(["discard", "append"], window_chunks=2) == ([(0,)], [(1,)])
    assert held(["discard", "append", "discard"], window_chunks=2) == ([(0,), (1,)], [(2,)])


def test_ema_folds_into_the_newest_sink() -> None:
    assert held(["discard", "append", "ema", "discard"], window_chunks=1) == ([(0,), (1, 2)], [])


def test_append_folds_once_the_sinks_are_full() -> None:
    routes: list[MemoryRoute] = ["discard", "append", "append", "append"]
    assert held(routes, window_chunks=1, max_sink_chunks=2) == ([(0,), (1, 2, 3)], [])


def test_fewer_sinks_at_most_than_first_sinks_append_nothing() -> None:
    assert held(["append"] * 5, sink_chunks=3, window_chunks=1, max_sink_chunks=1) == ([(0,), (1,), (2, 3, 4)], [])


def test_replace_takes_the_place_of_the_first_sink() -> None:
    assert held(["discard", "replace", "discard"], window_chunks=1) == ([(1,)], [])
    assert held(["discard", "append", "replace", "discard"], window_chunks=1) == ([(2,), (1,)], [])


def test_a_pair_of_averages_takes_the_leaving_chunk_twice() -> None:
    assert held(["discard"] * 3 + ["ema_pair"], sink_chunks=3, window_chunks=1) == ([(0,), (1, 3), (2, 3)], [])
    assert held(["discard", "ema_pair"], window_chunks=1) == ([(0, 1)], [])


def test_the_last_fold_acts_where_there_is_one_sink() -> None:
    folds = tuple(lambda sink, leaving, name=name: (name, sink, leaving) for name in ("slow", "fast"))
    assert paired((1,), 2, folds) == (("fast", 1, 2),)  # type: ignore[type-var, arg-type]
    assert paired((0, 1, 2), 3, folds) == (0, ("slow", 1, 3), ("fast", 2, 3))  # type: ignore[type-var, arg-type]


def test_flush_drops_what_was_remembered() -> None:
    assert held(["discard", "append", "discard", "flush"], window_chunks=3) == ([(3,)], [])
    assert held(["discard", "flush", "discard"], window_chunks=3) == ([(1,)], [(2,)])


def test_a_route_that_is_unknown_here_discards() -> None:
    plan = MemoryPlan(window_chunks=1)
    memory = evict(RoutedMemory((Chunk((0,)),), (Chunk((1,), "replace"),)), plan, merged)
    assert [each.members for each in memory.blocks] == [(0,)]


def test_a_memory_is_not_changed() -> None:
    plan = MemoryPlan(window_chunks=2)
    parent = RoutedMemory((Chunk((0,)),), (Chunk((1,), "ema"), Chunk((2,))))
    child = evict(parent, plan, merged)
    assert [each.members for each in parent.blocks] == [(0,), (1,), (2,)]
    assert [each.members for each in child.blocks] == [(0, 1), (2,)]
    assert child.window[0] is parent.window[1]


@pytest.mark.parametrize(
    ("chunks", "kept"),
    [(0, (0, 0)), (1, (0, 0)), (2, (1, 0)), (3, (1, 1)), (4, (1, 2)), (5, (2, 2)), (8, (5, 2)), (40, (5, 2))],
)
def test_a_memory_fills_its_window_first(chunks: int, kept: tuple[int, int]) -> None:
    assert capacity(MemoryPlan(), chunks) == kept


class NoRope:
    """Turns nothing: these blocks have no keys."""

    def by(self, frames: int) -> None:
        return None


def one_hot(index: int, route: MemoryRoute) -> Block:
    """A block whose value marks its chunk, so that a moving average shows what went into it."""
    return Block((), (torch.nn.functional.one_hot(torch.tensor(index), 20).double(),), index, 1, route)


def members(block: Block) -> list[int]:
    """The chunks in a block's moving average. With a decay of a half, later ones weigh more, except the sink's own."""
    weights = block.values[0]
    rest = [index for index in weights.nonzero().flatten().tolist() if index != block.start]
    return [block.start, *sorted(rest, key=lambda index: float(weights[index]))]


@settings(deadline=None, database=None)
@given(plan=PLANS, routes=PATHS)
def test_memory_page_and_estimate_agree(plan: MemoryPlan, routes: list[MemoryRoute]) -> None:
    plan = plan.model_copy(update={"sink_precision": "model", "pair_decays": (0.5, 0.5)})
    memories: list[Memory] = walk(routes, plan, one_hot, partial(with_room, rope=NoRope()))
    strip = timeline(routes, plan)
    assert len(strip) == len(memories)
    for chunk, (memory, slots) in enumerate(zip(memories, strip, strict=True)):
        assert [members(block) for block in memory.blocks] == [[slot.chunk, *slot.folded] for slot in slots]
        assert len(memory.sinks) == sum(slot.kind != "window" for slot in slots)
        sinks, window = capacity(plan, chunk + 1)
        assert len(memory.sinks) <= sinks
        assert len(memory.window) <= window


@settings(deadline=None, database=None)
@given(plan=PLANS, chunks=st.integers(1, 20))
def test_the_bound_is_reached_where_every_chunk_is_appended(plan: MemoryPlan, chunks: int) -> None:
    last = walk(["append"] * chunks, plan, lambda index, route: Chunk((index,), route))[-1]
    assert (len(last.sinks), len(last.window)) == capacity(plan, chunks)
