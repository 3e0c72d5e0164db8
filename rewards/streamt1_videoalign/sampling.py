"""Which frames of a window the judge is shown, two by two."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.reward import RewardInput

FEWEST, MOST = 4, 768


def trained(frames: int, fps: float, rate: float) -> list[int]:
    """Indices of an even number of frames, evenly spread, about `rate` a second: the rule of the model's own reader.

    At least four where there are as many; one frame is shown twice.
    """
    if frames < 2:
        return [0, 0]
    most = min(MOST, frames // 2 * 2)
    count = round(min(max(frames / fps * rate, FEWEST), most) / 2) * 2
    return spread(frames, count)


def anchored(chunks: Sequence[int], fps: float, rate: float) -> list[int]:
    """The same places in each chunk, chunk lengths given: a pair stays the same while the window slides over it.

    Not how the model was trained: a long window gets a few frames more, and their spacing is uneven.
    """
    chosen: list[int] = []
    start = 0
    for length in chunks:
        count = max(1, round(length / fps * rate / 2)) * 2
        chosen += [start + place for place in spread(length, count)]
        start += length
    return chosen


def spread(frames: int, count: int) -> list[int]:
    """`count` indices from the first to the last of `frames`; repeated where there are too few."""
    return [int(place) for place in torch.linspace(0, frames - 1, count).round().tolist()]


def chunk_lengths(inp: RewardInput) -> list[int]:
    """How many frames each shown chunk has. Without frame names earlier chunks are taken to be as long as the new."""
    if inp.frame_ids:
        return [len(list(group)) for _, group in groupby(inp.frame_ids[0], key=lambda key: key[0])]
    start, stop, _ = inp.new_frames.indices(int(inp.video.shape[1]))
    whole, rest = divmod(start, stop - start)
    return [*([rest] if rest else []), *[stop - start] * (whole + 1)]
