"""What later chunks may attend to: permanent sinks and a local window of key/value blocks, as immutable values.

Layout, oldest first: ``[first sinks | appended sinks | local window]``. Keys are stored rotated: a token keeps the
absolute position it was born with for as long as it is remembered, so a cached key never has to be turned again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from streamt1_wan.rope import rotate

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.adapter import MemoryPlan
    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_wan.rope import Rope


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Context of one chunk: per layer a rotated key and a value, ``[conditions, tokens, heads, head_dim]``.

    `start` is its first absolute latent frame. `route` is what becomes of it when it leaves the window.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    start: int
    frames: int
    route: MemoryRoute = "discard"


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """The blocks of one branch. Blocks are shared by all branches that descend from them."""

    sinks: tuple[Block, ...] = ()
    window: tuple[Block, ...] = ()

    @property
    def blocks(self) -> tuple[Block, ...]:
        return self.sinks + self.window


def remember(memory: Memory, block: Block, plan: MemoryPlan) -> Memory:
    """Add the newest chunk; the first `plan.sink_chunks` chunks are sinks for good and never leave."""
    if len(memory.sinks) < plan.sink_chunks:
        return replace(memory, sinks=(*memory.sinks, block))
    return replace(memory, window=(*memory.window, block))


def evict(memory: Memory, plan: MemoryPlan, rope: Rope) -> Memory:
    """Make room for the next chunk: what leaves the window takes its route (paper: Stream-Scaled Memory Sinking).

    The window holds `plan.window_chunks` chunks with the one to come. A route is fixed before its chunk leaves, so
    this depends on the parent alone and all its children share the result.
    """
    while len(memory.window) >= plan.window_chunks:
        leaving, *stay = memory.window
        memory = Memory(_routed(memory.sinks, leaving, plan, rope), tuple(stay))
    return memory


def _routed(sinks: tuple[Block, ...], leaving: Block, plan: MemoryPlan, rope: Rope) -> tuple[Block, ...]:
    if leaving.route == "append" and len(sinks) < plan.max_sink_chunks:
        return (*sinks, leaving)
    # As in the paper's release, a chunk to append is folded into the newest sink once the sinks are full.
    if leaving.route != "discard" and sinks:
        return (*sinks[:-1], fold(sinks[-1], leaving, plan, rope))
    return sinks


def fold(sink: Block, leaving: Block, plan: MemoryPlan, rope: Rope) -> Block:
    """Moving average ``decay * sink + (1 - decay) * leaving`` of keys and values; the sink keeps its position.

    The leaving keys are turned from their own frames to the sink's before mixing: this equals mixing keys without
    positions, as the paper does. In float32 (`plan.sink_precision`), else the usual decay of 0.999 rounds to nothing.
    """
    turn = rope.by(sink.start - leaving.start)
    turned = (rotate(_wide(key, plan), turn) for key in leaving.keys)
    return replace(
        sink,
        keys=tuple(_mixed(old, new, plan) for old, new in zip(sink.keys, turned, strict=True)),
        values=tuple(_mixed(old, new, plan) for old, new in zip(sink.values, leaving.values, strict=True)),
    )


def _wide(x: Tensor, plan: MemoryPlan) -> Tensor:
    return x.float() if plan.sink_precision == "float32" else x


def _mixed(old: Tensor, new: Tensor, plan: MemoryPlan) -> Tensor:
    return plan.ema_decay * _wide(old, plan) + (1 - plan.ema_decay) * _wide(new, plan)


def assembled(memory: Memory, room: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Per layer fresh buffers of keys and values, ``[conditions, tokens + room, heads, head_dim]`` in `dtype`.

    All blocks lie in a row; the last `room` tokens are left for the chunk that reads them. Empty without blocks.
    """
    blocks = memory.blocks
    if not blocks:
        return []
    keys = zip(*(block.keys for block in blocks), strict=True)
    values = zip(*(block.values for block in blocks), strict=True)
    return [(_joined(k, room, dtype), _joined(v, room, dtype)) for k, v in zip(keys, values, strict=True)]


def _joined(parts: tuple[Tensor, ...], room: int, dtype: torch.dtype) -> Tensor:
    rows, _, heads, width = parts[0].shape
    tokens = sum(part.shape[1] for part in parts)
    buffer = parts[0].new_empty((rows, tokens + room, heads, width), dtype=dtype)
    torch.cat([part.to(dtype) for part in parts], dim=1, out=buffer[:, :tokens])
    return buffer
