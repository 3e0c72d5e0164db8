"""The KV cache that later chunks attend to: key/value blocks in permanent sinks and a local window.

`streamt1_plugins.api.routed_memory` has the rule by which blocks leave the window. Keys are stored rotated: a token
keeps the absolute position it was made at while it is cached, so a cached key is never rotated again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import torch

from streamt1_plugins.api.routed_memory import RoutedMemory
from streamt1_wan.rope import rotate

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.adapter import MemoryPlan
    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_wan.rope import Rope


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Context of one chunk: per layer a rotated key and a value, ``[conditions, tokens, heads, head_dim]``.

    `start` is its first absolute latent frame. `route` is taken when it leaves the window.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    start: int
    frames: int
    route: MemoryRoute = "discard"


Memory: TypeAlias = RoutedMemory[Block]
"""The blocks of one branch."""


def fold(sink: Block, leaving: Block, plan: MemoryPlan, rope: Rope) -> Block:
    """Moving average ``decay * sink + (1 - decay) * leaving`` of keys and values; the sink keeps its position.

    The evicted keys are rotated from their own frames to the sink's before mixing, which equals mixing keys without
    positions, as in the paper. Use float32 (`plan.sink_precision`), or the usual decay of 0.999 rounds to no change.
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
