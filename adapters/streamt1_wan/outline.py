"""Counts the transformer forwards of a call."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamt1_plugins.api.adapter import Outline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.adapter import MemoryPlan
    from streamt1_plugins.api.scenes import Scene


def outlined(steps: Sequence[int], conditions: int, chunks: int, chunk_frames: int) -> Outline:
    """`steps` per chunk, the last entry repeats; a pass has a row per condition (two with guidance)."""
    each = tuple(steps[min(index, len(steps) - 1)] for index in range(chunks))
    return Outline(
        generate=tuple(conditions * count for count in each),
        commit=(conditions,) * (chunks - 1) + (0,),  # the context of the last chunk is not read
        latent_frames=chunk_frames,
        steps=each,
    )


def with_scenes(outline: Outline, scenes: Sequence[Scene], plan: MemoryPlan) -> Outline:
    """With the passes that commit the window again where a scene begins with `recache`."""
    commit, begun = list(outline.commit), 0
    conditions = commit[0]  # a clean pass has a row for each
    for scene in scenes[1:]:
        if scene.memory == "recache":
            window = min(plan.window_chunks - 1, max(0, scene.chunk - begun - plan.sink_chunks))
            commit[scene.chunk - 1] += conditions * window
        begun = scene.chunk if scene.memory == "flush" else begun
    return replace(outline, commit=tuple(commit))
