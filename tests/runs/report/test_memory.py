"""The memory that the page shows is the memory there was."""

from __future__ import annotations

from streamt1_plugins.config.schema import MemoryPlan
from streamt1_plugins.runs.report import memory


def test_folded_chunks_are_counted() -> None:
    sizes = MemoryPlan(sink_chunks=1, window_chunks=2, max_sink_chunks=2)
    held = memory.timeline(["discard", "ema", "append", "append", "discard", "ema"], sizes)
    assert held[-1] == (
        memory.Slot(0, "sink", (1,)),
        memory.Slot(2, "append", (3,)),
        memory.Slot(4, "window"),
    )
    assert memory.sink_count(held[-1]) == 2
