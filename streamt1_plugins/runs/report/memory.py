"""What the memory held while each chunk was made, worked out from the routes of a path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from streamt1_plugins.api.routed_memory import RoutedMemory, evict, remember

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_plugins.config.schema import MemoryPlan


@dataclass(frozen=True, slots=True)
class Slot:
    """One remembered chunk: a `sink` from the start, an `append`ed sink, or in the `window`; `folded` by EMA."""

    chunk: int
    kind: Literal["sink", "append", "window"]
    folded: tuple[int, ...] = ()


Held = tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A block of the memory: its own number and those folded into it."""

    index: int
    route: MemoryRoute | None
    folded: tuple[int, ...] = ()


def timeline(routes: Sequence[MemoryRoute | None], plan: MemoryPlan) -> list[Held]:
    """What chunk 0, 1, ... could look back to, sinks first. `routes`: of the chunks of one path, oldest first."""
    memory: RoutedMemory[_Chunk] = RoutedMemory()
    held = [_slots(memory, plan)]
    for index, route in enumerate(routes[:-1]):
        memory = evict(remember(memory, _Chunk(index, route), plan), plan, _folded)
        held.append(_slots(memory, plan))
    return held


def sink_count(held: Held) -> int:
    """How many of the slots are sinks."""
    return sum(slot.kind != "window" for slot in held)


def _folded(sink: _Chunk, leaving: _Chunk) -> _Chunk:
    return replace(sink, folded=(*sink.folded, leaving.index))


def _slots(memory: RoutedMemory[_Chunk], plan: MemoryPlan) -> Held:
    sinks = (
        Slot(each.index, "sink" if each.index < plan.sink_chunks else "append", each.folded) for each in memory.sinks
    )
    return (*sinks, *(Slot(each.index, "window") for each in memory.window))
