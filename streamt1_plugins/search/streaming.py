"""Handing out a video while it is searched: which chunks can no longer change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.run import Run


@dataclass(frozen=True)
class StreamedChunk:
    """A chunk all surviving branches agree on, so it will not change: frames ``[T, 3, H, W]`` in ``[0, 1]``."""

    index: int
    frames: Tensor
    latents: Tensor


def settled(run: Run) -> int:
    """How many first chunks of a run can no longer change: all beams share them, and no revision may go back to them.

    A pipeline that blends chunks changes the end of the last one.
    """
    held_back = int(run.session.capabilities.decode == "blended")
    return min(shared(run.beams), run.earliest) - held_back


def note_of_reach(reach: int | None, policy: str) -> str | None:
    """What a stream notes where a revision policy may go back; None where it never does."""
    if reach == 0:
        return None
    late = "at the end" if reach is None else f"{reach} chunk{'s' * (reach > 1)} late"
    return f"Chunks are handed out {late}: revision {policy!r} may go back and change them."


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
