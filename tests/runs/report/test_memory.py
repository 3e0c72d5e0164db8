"""The memory that the page shows is the memory there was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.config.schema import MemoryPlan
from streamt1_plugins.runs.report import memory


def test_the_memory_shown_is_the_memory_there_was(tmp_path: Path) -> None:
    """Against the adapter's own rule, on random routes."""
    wan = pytest.importorskip("streamt1_wan.memory")
    plan = streamt1.MemoryPlan(sink_chunks=2, window_chunks=3, max_sink_chunks=4)
    sizes = MemoryPlan(sink_chunks=2, window_chunks=3, max_sink_chunks=4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        picks = torch.randint(3, (14,), generator=generator).tolist()
        routes = [("discard", "ema", "append")[pick] for pick in picks]
        held, real = memory.timeline(routes, sizes), wan.Memory()
        for chunk, route in enumerate(routes):
            shown = [slot.chunk for slot in held[chunk]]
            assert shown == [block.start for block in real.blocks]
            block = wan.Block((), (), start=chunk, frames=1, route=route)
            real = wan.evict(wan.remember(real, block, plan), plan, NoRope())


class NoRope:
    def by(self, frames: int) -> None:
        return None


def test_folded_chunks_are_counted() -> None:
    sizes = MemoryPlan(sink_chunks=1, window_chunks=2, max_sink_chunks=2)
    held = memory.timeline(["discard", "ema", "append", "append", "discard", "ema"], sizes)
    assert held[-1] == (
        memory.Slot(0, "sink", (1,)),
        memory.Slot(2, "append", (3,)),
        memory.Slot(4, "window"),
    )
    assert memory.sink_count(held[-1]) == 2
