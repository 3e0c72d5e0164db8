"""Preprocessing of frames for image networks: resize, crop and normalise, in torch and on the frames' device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from streamt1_plugins.api.shared_frames import once
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import functional
else:
    torch, functional = deferred("torch"), deferred("torch.nn.functional")


Filter = Literal["bilinear", "bicubic"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def resize(frames: Tensor, size: tuple[int, int], kind: Filter = "bicubic", *, antialias: bool = True) -> Tensor:
    """Resized frames: ``[M, 3, H, W]`` in ``[0, 1]`` to ``[M, 3, *size]`` float32, with bicubic overshoot clamped.

    Rewards of one search that resize the same frames alike share the result: do not change it in place.
    """
    if tuple(frames.shape[-2:]) == size:
        return frames.float()

    def resized(frames: Tensor) -> Tensor:
        enlarged = functional.interpolate(frames.float(), size, mode=kind, antialias=antialias, align_corners=False)
        return enlarged.clamp(0, 1)

    return once(frames, ("resize", size, kind, antialias), resized)


def to_levels(frames: Tensor) -> Tensor:
    """Frames rounded to 8-bit levels, as in image files."""
    return (frames * 255).round() / 255


def short_side(frames: Tensor, side: int, kind: Filter = "bicubic", *, antialias: bool = True) -> Tensor:
    """Frames whose shorter side is `side` pixels, in the same aspect ratio; the longer side is rounded down."""
    height, width = frames.shape[-2:]
    scale = side / min(height, width)
    size = (side, int(width * scale)) if height <= width else (int(height * scale), side)
    return resize(frames, size, kind, antialias=antialias)


def centre_crop(frames: Tensor, side: int) -> Tensor:
    """The middle `side` x `side` pixels of frames that are at least that large."""
    top, left = (round((length - side) / 2) for length in frames.shape[-2:])
    return frames[..., top : top + side, left : left + side]


def letterbox(frames: Tensor, side: int) -> Tensor:
    """Whole frames in `side` x `side` pixels, with black borders."""
    height, width = frames.shape[-2:]
    scale = side / max(height, width)
    fitted = resize(frames, (max(1, round(height * scale)), max(1, round(width * scale))))
    rows, columns = side - fitted.shape[-2], side - fitted.shape[-1]
    return functional.pad(fitted, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))


def normalise(frames: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """``(frames - mean) / std`` per channel, ``[..., 3, H, W]``."""
    shape = (3, 1, 1)
    centre = torch.tensor(mean, dtype=frames.dtype, device=frames.device).view(shape)
    return (frames - centre) / torch.tensor(std, dtype=frames.dtype, device=frames.device).view(shape)
