"""The KV cache that later chunks attend to: key/value blocks in permanent sinks and a local window.

`streamt1_plugins.api.routed_memory` has the rule by which blocks leave the window. Keys are stored rotated, to the
position that their chunk was made at. With absolute positions they are read as they are stored; with relative ones
`placed` turns them to their place in the context.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import torch

from streamt1_plugins.api.routed_memory import Further, RoutedMemory, capacity, evict, paired, replaced
from streamt1_plugins.errors import InputError
from streamt1_wan.rope import rotate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from streamt1_plugins.api.adapter import MemoryPlan
    from streamt1_plugins.api.types import MemoryRoute
    from streamt1_wan.rope import Rope


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Context of one chunk: per layer a rotated key and a value, ``[conditions, tokens, heads, head_dim]``.

    `start` is the latent frame that its keys are rotated to. `route` is taken when it leaves the window.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    start: int
    frames: int
    route: MemoryRoute = "discard"


Memory: TypeAlias = RoutedMemory[Block]
"""The blocks of one branch."""


def with_room(memory: Memory, plan: MemoryPlan, rope: Rope) -> Memory:
    """The memory with room for the next chunk, its blocks routed as they leave the window."""
    slow, fast = (plan.model_copy(update={"ema_decay": decay}) for decay in plan.pair_decays)
    pair = (partial(fold, plan=slow, rope=rope), partial(fold, plan=fast, rope=rope))
    further: dict[MemoryRoute, Further[Block]] = {"replace": replaced, "ema_pair": partial(paired, folds=pair)}
    return evict(memory, plan, partial(fold, plan=plan, rope=rope), further)


def check_positions(plan: MemoryPlan, chunks: int, chunk_frames: int, limit: int) -> None:
    """Raise `InputError` where the largest context of a video, with the chunk that reads it, has no positions left."""
    sinks, window = capacity(plan, chunks)
    if plan.recall_chunks is not None:
        sinks = min(sinks, plan.sink_chunks + plan.recall_chunks)
    frames = (sinks + window + 1) * chunk_frames
    if frames > limit:
        raise InputError(
            f"The memory reaches {frames} latent frames ({sinks} sinks, {window} chunks in the window and the current "
            f"one, of {chunk_frames} each), but this model has positions for {limit} (rope_max_seq_len). Lower "
            "`sinks.max_sink_chunks`, `sinks.sink_chunks` or `sinks.window_chunks`."
        )


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


def placed(blocks: Sequence[Block], rope: Rope) -> tuple[Block, ...]:
    """The blocks with keys at consecutive positions from frame 0, whatever their age; values are shared."""
    found, start = [], 0
    for block in blocks:
        if block.start != start:
            turn = rope.by(start - block.start)
            block = replace(block, keys=tuple(rotate(key, turn) for key in block.keys), start=start)
        found.append(block)
        start += block.frames
    return tuple(found)


def assembled(blocks: Sequence[Block], room: int, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Per layer fresh buffers of keys and values, ``[conditions, tokens + room, heads, head_dim]`` in `dtype`.

    All blocks lie in a row; the last `room` tokens are left for the chunk that reads them. Empty without blocks.
    """
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
