"""Recall: of the appended sinks, the next chunk reads only those most alike to the newest chunk (after DySink).

Likeness is the cosine of mean keys, averaged over layers. The keys of both are turned to the same position in time, so
their age does not count. A gate leaves out sinks that are not alike at all, such as those of another scene.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch.nn.functional as F

from streamt1_wan.rope import rotate

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.adapter import MemoryPlan
    from streamt1_wan.memory import Block, Memory
    from streamt1_wan.rope import Rope


def likeness(newest: Block, other: Block, rope: Rope) -> float:
    """The mean cosine, -1..1, of the two chunks' mean keys of each layer, for the prompt's condition."""
    turn = rope.by(newest.start - other.start)
    pairs = zip(newest.keys, other.keys, strict=True)
    means = [(_mean(mine), rotate(_mean(theirs), turn)) for mine, theirs in pairs]
    cosines = [F.cosine_similarity(mine.flatten(), theirs.flatten(), dim=0) for mine, theirs in means]
    return sum(map(float, cosines)) / len(cosines)


def _mean(key: Tensor) -> Tensor:
    """``[1, 1, heads, head_dim]``: over the tokens of the first condition."""
    return key[:1].float().mean(1, keepdim=True)


def recalled(memory: Memory, plan: MemoryPlan, rope: Rope) -> Memory:
    """What the next chunk reads: the first sinks, the appended ones that are most alike, in order, and the window."""
    if plan.recall_chunks is None or not memory.blocks:
        return memory
    first, appended = memory.sinks[: plan.sink_chunks], memory.sinks[plan.sink_chunks :]
    newest = memory.blocks[-1]
    alike = {index: likeness(newest, block, rope) for index, block in enumerate(appended)}
    passing = [index for index, value in alike.items() if value >= plan.recall_gate]
    best = sorted(passing, key=lambda index: -alike[index])[: plan.recall_chunks]
    return replace(memory, sinks=(*first, *(appended[index] for index in sorted(best))))
