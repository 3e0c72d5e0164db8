"""The route rule of memory sinking (paper: Stream-Scaled Memory Sinking), the same for every kind of block.

A memory holds permanent sinks and a local window, one block per chunk, oldest first. A block that leaves the window
takes its route: it is dropped (`discard`), averaged into the newest sink (`ema`) or becomes a sink itself (`append`).

Beyond the paper: with `replace` it takes the place of the first sink, with `ema_pair` it is averaged into the two
newest sinks at two rates, and with `flush` all that is remembered before it is dropped at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_plugins.config.schema import MemoryPlan


PAPER = frozenset({"discard", "ema", "append"})
"""The routes of the paper."""

FURTHER = frozenset({"replace", "ema_pair", "flush"})
"""Routes beyond the paper."""


class Routed(Protocol):
    """A remembered chunk, as far as the rule is concerned."""

    @property
    def route(self) -> MemoryRoute | None:
        """What becomes of it when it leaves the window; None is `discard`."""


Block = TypeVar("Block", bound=Routed)
Further: TypeAlias = "Callable[[tuple[Block, ...], Block], tuple[Block, ...]]"
"""A route beyond the paper: the sinks after a block has left the window."""


@dataclass(frozen=True, eq=False)  # no slots: with them `RoutedMemory[Block]()` fails
class RoutedMemory(Generic[Block]):
    """The blocks one branch remembers, as an immutable value: branches that share a past share its blocks."""

    sinks: tuple[Block, ...] = ()
    window: tuple[Block, ...] = ()

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All of them, sinks first."""
        return self.sinks + self.window


def remember(memory: RoutedMemory[Block], block: Block, plan: MemoryPlan) -> RoutedMemory[Block]:
    """The memory with the newest chunk; the first `plan.sink_chunks` chunks are sinks whatever their route.

    A chunk whose route is `flush` is the first again: what was remembered is dropped.
    """
    if block.route == "flush":
        memory = RoutedMemory()
    if len(memory.sinks) < plan.sink_chunks:
        return replace(memory, sinks=(*memory.sinks, block))
    return replace(memory, window=(*memory.window, block))


def evict(
    memory: RoutedMemory[Block],
    plan: MemoryPlan,
    fold: Callable[[Block, Block], Block],
    further: Mapping[MemoryRoute, Further[Block]] | None = None,
) -> RoutedMemory[Block]:
    """The memory with room for the next chunk: blocks that do not fit into the window take their routes.

    The window holds `plan.window_chunks` chunks, the one to come included. `fold(sink, leaving)` averages a block into
    a sink. `further`: routes beyond the paper, each a function of the sinks and the leaving block. A route is fixed
    before its chunk leaves, so all children of a branch share the result.
    """
    further = further or {}
    while len(memory.window) >= plan.window_chunks:
        leaving, *stay = memory.window
        beyond = further.get(leaving.route or "discard")
        sinks = beyond(memory.sinks, leaving) if beyond else routed(memory.sinks, leaving, plan, fold)
        memory = RoutedMemory(sinks, tuple(stay))
    return memory


def routed(
    sinks: tuple[Block, ...], leaving: Block, plan: MemoryPlan, fold: Callable[[Block, Block], Block]
) -> tuple[Block, ...]:
    """The sinks after a block has left the window on its route."""
    if leaving.route == "append" and len(sinks) < plan.max_sink_chunks:
        return (*sinks, leaving)
    # As in the paper's release, a chunk to append is folded into the newest sink once the sinks are full.
    if leaving.route in ("append", "ema"):
        return (*sinks[:-1], fold(sinks[-1], leaving))
    return sinks


def replaced(sinks: tuple[Block, ...], leaving: Block) -> tuple[Block, ...]:
    """The route `replace`: the leaving block is the first sink now, and keeps its own position in time."""
    return (leaving, *sinks[1:])


def paired(
    sinks: tuple[Block, ...], leaving: Block, folds: tuple[Callable[[Block, Block], Block], ...]
) -> tuple[Block, ...]:
    """The route `ema_pair`: the newest sinks, one per fold, are averaged with the leaving block.

    With two slow and fast averages this is the memory of MemRoPE. Where sinks are fewer than folds, the last folds act.
    """
    kept = max(0, len(sinks) - len(folds))
    moved = zip(sinks[kept:], folds[-len(sinks) :], strict=False)
    return (*sinks[:kept], *(fold(sink, leaving) for sink, fold in moved))


def capacity(plan: MemoryPlan, chunks: int) -> tuple[int, int]:
    """(sinks, blocks in the window) that a branch of a video of `chunks` chunks holds at most.

    Reached where every chunk is appended. The last chunk is never remembered.
    """
    past = max(0, chunks - 1)
    window = min(plan.window_chunks - 1, max(0, past - plan.sink_chunks))
    return min(past - window, max(plan.sink_chunks, plan.max_sink_chunks)), window
