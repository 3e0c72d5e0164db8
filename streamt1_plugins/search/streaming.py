"""Handing out a video while it is searched: which chunks can no longer change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from streamt1_plugins.api.candidate import Beam


@dataclass(frozen=True)
class StreamedChunk:
    """A chunk all surviving branches agree on, so it will not change: frames ``[T, 3, H, W]`` in ``[0, 1]``."""

    index: int
    frames: Tensor
    latents: Tensor


def shared(beams: Sequence[Beam]) -> int:
    """How many first chunks all beams have in common, those the call continues included."""
    paths = [[node.id for node in beam.path] for beam in beams]
    given = beams[0].history.index - len(paths[0])
    steps = zip(*paths, strict=True)
    return given + next((i for i, ids in enumerate(steps) if len(set(ids)) > 1), len(paths[0]))


def chunks(beam: Beam, start: int, stop: int) -> Iterator[StreamedChunk]:
    """The chunks of a branch from `start` up to `stop`, as far as they are committed."""
    history = beam.history
    for index in range(start, min(stop, history.index)):
        yield StreamedChunk(index, history.frames[index], history.latents[index])
