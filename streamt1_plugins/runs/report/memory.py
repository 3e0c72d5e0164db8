"""What the memory held while each chunk was made, worked out from the routes of a path."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from streamt1_plugins.api.routed_memory import Further, RoutedMemory, evict, paired, remember, replaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.types import MemoryRoute, Node
    from streamt1_plugins.config.schema import MemoryPlan


@dataclass(frozen=True, slots=True)
class Slot:
    """One remembered chunk: a `sink` from the start, an `append`ed sink, or in the `window`; `folded` by EMA."""

    chunk: int
    kind: Literal["sink", "append", "window"] = "window"
    folded: tuple[int, ...] = ()
    route: MemoryRoute | None = field(default=None, compare=False)


Held = tuple[Slot, ...]


def routes_of(path: Sequence[Node]) -> list[MemoryRoute | None]:
    """The route of every chunk up to the end of a path. Chunks that the call continues came first and have none."""
    given = path[0].chunk if path else 0
    return [*[None] * given, *(node.route for node in path)]


def timeline(routes: Sequence[MemoryRoute | None], plan: MemoryPlan) -> list[Held]:
    """What chunk 0, 1, ... could look back to, sinks first. `routes`: of the chunks of one path, oldest first."""
    further: dict[MemoryRoute, Further[Slot]] = {
        "replace": replaced,
        "ema_pair": partial(paired, folds=(_folded, _folded)),
    }
    memory: RoutedMemory[Slot] = RoutedMemory()
    held: list[Held] = [()]
    for index, route in enumerate(routes[:-1]):
        memory = evict(remember(memory, Slot(index, route=route), plan), plan, _folded, further)
        sinks = [
            replace(each, kind="sink" if place < plan.sink_chunks else "append")
            for place, each in enumerate(memory.sinks)
        ]
        held.append((*sinks, *memory.window))
    return held


def sink_count(held: Held) -> int:
    """How many of the slots are sinks."""
    return sum(slot.kind != "window" for slot in held)


def _folded(sink: Slot, leaving: Slot) -> Slot:
    return replace(sink, folded=(*sink.folded, leaving.chunk))
