"""Counts the transformer forwards of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.adapter import Outline

if TYPE_CHECKING:
    from collections.abc import Sequence


def outlined(steps: Sequence[int], conditions: int, chunks: int, chunk_frames: int) -> Outline:
    """`steps` per chunk, the last entry repeats; a pass has a row per condition (two with guidance)."""
    each = tuple(steps[min(index, len(steps) - 1)] for index in range(chunks))
    return Outline(
        generate=tuple(conditions * count for count in each),
        commit=(conditions,) * (chunks - 1) + (0,),  # the context of the last chunk is not read
        latent_frames=chunk_frames,
        steps=each,
    )
