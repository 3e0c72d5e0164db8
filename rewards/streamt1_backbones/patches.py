"""Preprocessing of frames for Qwen2-VL: resized to whole patches, which are ordered as the network expects."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streamt1_backbones.frames import CLIP_MEAN, CLIP_STD, normalise, resize, to_levels

if TYPE_CHECKING:
    from torch import Tensor

PATCH = 14  # pixels, height and width of a patch
MERGE = 2  # patches in each direction that become one token
STRIDE = PATCH * MERGE


def target_size(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Height and width as in training: multiples of 28 in about the same aspect ratio, with an area within the limits.

    The published rule first rounds to the nearest multiple. Only if the area is outside the limits, it shrinks
    (rounding down) or grows (rounding up). With equal limits the result is therefore not always the nearest area.
    """
    near = [max(STRIDE, round(side / STRIDE) * STRIDE) for side in (height, width)]
    area = near[0] * near[1]
    if min_pixels <= area <= max_pixels:
        return near[0], near[1]
    scale = math.sqrt((max_pixels if area > max_pixels else min_pixels) / (height * width))
    whole = math.floor if area > max_pixels else math.ceil
    rows, columns = (max(STRIDE, whole(side * scale / STRIDE) * STRIDE) for side in (height, width))
    return rows, columns


def prepare(frames: Tensor, min_pixels: int, max_pixels: int) -> Tensor:
    """Frames ``[M, 3, H, W]`` in ``[0, 1]``, resized and normalised, in 8-bit levels like image files."""
    size = target_size(int(frames.shape[-2]), int(frames.shape[-1]), min_pixels, max_pixels)
    return normalise(to_levels(resize(to_levels(frames.float()), size)), CLIP_MEAN, CLIP_STD)


def patchify(pairs: Tensor) -> Tensor:
    """Patches ``[P, patches, 1176]`` of prepared frame pairs ``[P, 2, 3, h, w]``.

    The patches of one token are adjacent. Their order is token row, token column, then the 2 x 2 patches of the token;
    the order inside a patch is channel, frame, row, column.
    """
    count, frames, channels, height, width = pairs.shape
    rows, columns = height // STRIDE, width // STRIDE
    grid = pairs.reshape(count, frames, channels, rows, MERGE, PATCH, columns, MERGE, PATCH)
    ordered = grid.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return ordered.reshape(count, rows * columns * MERGE**2, channels * frames * PATCH**2)
