"""What the memory held while each chunk was made, worked out from the routes of a path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_plugins.config.schema import SinkSettings


@dataclass(frozen=True, slots=True)
class Slot:
    """One remembered chunk: a `sink` from the start, an `append`ed sink, or in the `window`; `folded` by EMA."""

    chunk: int
    kind: Literal["sink", "append", "window"]
    folded: tuple[int, ...] = ()


Held = tuple[Slot, ...]


def timeline(routes: Sequence[MemoryRoute | None], sizes: SinkSettings) -> list[Held]:
    """What chunk 0, 1, ... could look back to, sinks first. `routes`: of the chunks of one path, oldest first.

    The same rule as a routed memory: a chunk takes its route when it leaves the window; one to append is folded into
    the newest sink once the sinks are full.
    """
    held: list[Held] = [()]
    sinks: Held = ()
    window: list[int] = []
    for chunk in range(len(routes) - 1):
        if len(sinks) < sizes.sink_chunks:
            sinks = (*sinks, Slot(chunk, "sink"))
        else:
            window.append(chunk)
        while len(window) >= sizes.window_chunks:
            leaving = window.pop(0)
            sinks = _routed(sinks, leaving, routes[leaving], sizes)
        held.append((*sinks, *(Slot(each, "window") for each in window)))
    return held


def _routed(sinks: Held, leaving: int, route: MemoryRoute | None, sizes: SinkSettings) -> Held:
    if route == "append" and len(sinks) < sizes.max_sink_chunks:
        return (*sinks, Slot(leaving, "append"))
    if route in ("append", "ema") and sinks:
        newest = sinks[-1]
        return (*sinks[:-1], replace(newest, folded=(*newest.folded, leaving)))
    return sinks


def sink_count(held: Held) -> int:
    """How many of the slots are sinks."""
    return sum(slot.kind != "window" for slot in held)
