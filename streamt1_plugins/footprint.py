"""The memory a search will take on its device, estimated from a recipe: sums of what is kept, without activations."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from streamt1_plugins.adapter import MemoryPlan

if TYPE_CHECKING:
    from streamt1_plugins.adapter import Footprint
    from streamt1_plugins.recipe import Recipe, SearchSettings

UNITS = ("B", "kB", "MB", "GB")


@dataclass(frozen=True)
class Held:
    """How many of each are on the device at once: candidates made here, those of them that wait with a decoder state,
    and beams with their memory.
    """

    candidates: int
    waiting: int
    beams: int

    @classmethod
    def by(cls, search: SearchSettings, width: int, processes: int = 1) -> Held:
        """`width`: candidates per beam at most, which `processes` share."""
        candidates = -(-width * search.top_k // processes)
        waiting = candidates if search.park == "device" else min(candidates, search.batch)
        return cls(candidates, waiting, 1 if search.park == "cpu" else search.top_k)


@dataclass(frozen=True)
class Peak:
    """Bytes at the peak. Memory that branches share is counted for each of them, so this is rather too much.

    model: weights. context: keys and values of the beams, and those a forward pass reads. candidates: noise, latents,
    frames and decoder states of a chunk. videos: latents, frames and decoder states of the beams. rewards: weights they
    declare.
    """

    model: int
    context: int
    candidates: int
    videos: int
    rewards: int

    @property
    def total(self) -> int:
        return sum(getattr(self, item.name) for item in fields(self))

    def __str__(self) -> str:
        parts = ", ".join(f"{item.name} {sized(getattr(self, item.name))}" for item in fields(self))
        return f"about {sized(self.total)} of memory, activations aside ({parts})"


def peak(search: SearchSettings, each: Footprint, width: int, rewards: int = 0) -> Peak:
    """`each`: what one of everything takes. `width`: candidates per beam at most. `rewards`: bytes of their weights."""
    held = Held.by(search, width)
    return Peak(
        model=each.weights,
        context=held.beams * each.memory + each.reading,
        candidates=held.candidates * (2 * each.latents + each.frames) + held.waiting * each.state,
        videos=search.top_k * (each.chunks * (each.latents + each.frames) + each.state),
        rewards=rewards,
    )


def memory_plan(recipe: Recipe) -> MemoryPlan:
    """The largest memory a branch of this recipe can have: without routes no sinks are added and none is averaged."""
    sinks = recipe.sinks
    if recipe.memory.name == "fixed" and recipe.memory.options.get("route", "discard") == "discard":
        sinks = sinks.model_copy(update={"max_sink_chunks": sinks.sink_chunks, "sink_precision": "model"})
    return MemoryPlan(**sinks.model_dump())


def sized(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    unit = 0
    while count >= 1000 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {UNITS[unit]}"
