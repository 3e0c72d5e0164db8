"""The frames of a window that the model gets, in pairs."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from streamt1_plugins.api.reward import RewardInput
else:
    torch = deferred("torch")

FEWEST, MOST = 4, 768


def trained(frames: int, fps: float, rate: float) -> list[int]:
    """Indices of an even number of frames, evenly spread, about `rate` per second, as in training.

    There are at least four where the window has as many; a single frame is used twice.
    """
    if frames < 2:
        return [0, 0]
    most = min(MOST, frames // 2 * 2)
    count = round(min(max(frames / fps * rate, FEWEST), most) / 2) * 2
    return spread(frames, count)


def anchored(chunks: Sequence[int], fps: float, rate: float) -> list[int]:
    """Indices at the same positions of each chunk, so that pairs stay the same while the window moves.

    chunks: their lengths. This differs from training: a long window gets a few more frames, unevenly spaced.
    """
    chosen: list[int] = []
    start = 0
    for length in chunks:
        count = max(1, round(length / fps * rate / 2)) * 2
        chosen += [start + place for place in spread(length, count)]
        start += length
    return chosen


def spread(frames: int, count: int) -> list[int]:
    """`count` evenly spread indices from the first to the last of `frames`, repeated where there are too few."""
    return [int(place) for place in torch.linspace(0, frames - 1, count).round().tolist()]


def chunk_lengths(inp: RewardInput) -> list[int]:
    """Frames of each chunk of the window. Without frame keys, earlier chunks count as long as the new one."""
    if inp.frame_ids:
        return [len(list(group)) for _, group in groupby(inp.frame_ids[0], key=lambda key: key[0])]
    start, stop, _ = inp.new_frames.indices(int(inp.video.shape[1]))
    whole, rest = divmod(start, stop - start)
    return [*([rest] if rest else []), *[stop - start] * (whole + 1)]
