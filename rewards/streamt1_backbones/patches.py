"""Frames as Qwen2-VL takes them: resized to whole patches, cut up in the order the network expects."""

from __future__ import annotations

import math

from torch import Tensor

from streamt1_backbones.frames import CLIP_MEAN, CLIP_STD, normalise, resize, to_levels

PATCH = 14  # pixels, height and width of a patch
MERGE = 2  # patches in each direction that become one token
STRIDE = PATCH * MERGE


def target_size(height: int, width: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Height and width the model was trained to see: multiples of 28, the aspect kept, the area within the limits.

    The published rule rounds to the nearest multiple first, and only then shrinks (rounding down) or grows (rounding
    up) what lies outside; with both limits equal this is not the nearest area.
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
    """``[M, 3, H, W]`` in ``[0, 1]`` resized and normalised; 8-bit levels in between, as where images are bytes."""
    size = target_size(int(frames.shape[-2]), int(frames.shape[-1]), min_pixels, max_pixels)
    return normalise(to_levels(resize(to_levels(frames.float()), size)), CLIP_MEAN, CLIP_STD)


def patchify(pairs: Tensor) -> Tensor:
    """``[P, 2, 3, h, w]`` prepared frame pairs to ``[P, patches, 1176]``.

    Patches of one token stand together: token rows, token columns, then the 2 x 2 patches of the token; inside a patch
    channel, frame, row, column.
    """
    count, frames, channels, height, width = pairs.shape
    rows, columns = height // STRIDE, width // STRIDE
    grid = pairs.reshape(count, frames, channels, rows, MERGE, PATCH, columns, MERGE, PATCH)
    ordered = grid.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return ordered.reshape(count, rows * columns * MERGE**2, channels * frames * PATCH**2)
