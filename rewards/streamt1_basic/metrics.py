"""Measures of faults: pure functions of ``[N, T, 3, H, W]`` frames in ``[0, 1]`` that return one number per video.

Each returns ``[N]`` in the unit that its docstring names; `rewards` converts measures to scores. Every video is
measured by itself, so the batch has no influence. NaN pixels give NaN.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import functional
else:
    torch, functional = deferred("torch"), deferred("torch.nn.functional")


from streamt1_plugins.api.shared_frames import once

ONE_LEVEL = 1 / 255  # of 8 bits
LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709
INVISIBLE = 3 * ONE_LEVEL  # a change below three 8-bit levels is decoder noise rather than content
FEW_EDGES = 1e-3  # mean edge strength of a nearly empty picture; that of a small object is ten times larger
HALF_LEVEL = ONE_LEVEL / 2  # the largest change of a pixel by rounding to 8 bits


def falling(measure: Tensor, half: float) -> Tensor:
    """``1 / (1 + (measure / half)**2)``: 1 at zero, 0.5 at `half`, and flat near zero, where all good clips are."""
    return 1 / (1 + (measure / half).square())


def shrink(video: Tensor, side: int = 32) -> Tensor:
    """Frames averaged down to a short side of `side` pixels, in float32; smaller frames keep their size.

    This keeps motion and colour and removes noise and grain. It makes the measures below independent of the resolution,
    and cheap.
    """
    count, frames, channels, height, width = video.shape
    scale = side / min(height, width)
    if scale >= 1:
        return video.float()
    size = (round(height * scale), round(width * scale))

    def pooled(video: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(video.flatten(0, 1).float(), size).view(count, frames, channels, *size)

    return once(video, ("shrink", size), pooled)


def luma(video: Tensor) -> Tensor:
    """Brightness ``[N, T, H, W]`` in ``[0, 1]``, Rec. 709, float32."""
    red, green, blue = video.unbind(2)
    # summed in place: at 480p every temporary tensor costs as much as the arithmetic
    return (red.float() * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def luma_second_difference(video: Tensor) -> Tensor:
    """Mean ``|m[t+1] - 2 m[t] + m[t-1]|`` of the frames' mean luma; 0 for fewer than three frames.

    A second difference ignores pans and steady fades, which a first difference counts as flicker.
    """
    means = luma(video).mean((2, 3))
    if means.shape[1] < 3:
        return means[:, 0] * 0
    return means.diff(n=2).abs().mean(1)


def boundary_ratio(video: Tensor, boundary: int) -> Tensor:
    """Change between frames ``boundary - 1`` and `boundary`, divided by the mean change between the other neighbours.

    1 is seamless, and 0 is a repeated frame. Without a boundary, or without another pair of frames, the result is 1.
    """
    change = video.float().diff(dim=1).abs().mean((2, 3, 4))
    if boundary < 1 or change.shape[1] < 2:
        return video[:, 0].float().mean((1, 2, 3)) * 0 + 1
    others = torch.cat([change[:, : boundary - 1], change[:, boundary:]], dim=1).mean(1)
    # in a still video both are rounding errors, and their ratio means nothing
    return (change[:, boundary - 1] + HALF_LEVEL) / (others + HALF_LEVEL)


def colour_shift(video: Tensor, anchor: Tensor) -> Tensor:
    """Distance of the mean and spread of the colour channels from those of `anchor`, summed, 0..1.5.

    The spread detects faults that keep the mean: washed-out contrast and vanishing objects.
    """
    mean, spread = _colour(video)
    anchor_mean, anchor_spread = _colour(anchor)
    return ((mean - anchor_mean).abs() + (spread - anchor_spread).abs()).mean(1)


def _colour(video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, ``[N, 3]`` each."""
    values = video.float().transpose(1, 2).flatten(2)
    return values.mean(2), values.std(2, correction=0)


def clipped_share(video: Tensor) -> Tensor:
    """Share 0..1 of the colour values within one 8-bit level of black or white, where detail is lost.

    Estimated from every second (third, ...) row and column of large frames.
    """
    step = max(1, min(video.shape[3:]) // 240)
    video = video[..., ::step, ::step].float()
    clipped = ((video - 0.5).abs() >= 0.5 - ONE_LEVEL).float()
    return clipped.mean((1, 2, 3, 4)) + video.mean((1, 2, 3, 4)) * 0  # a comparison alone would drop NaN


def fine_detail(brightness: Tensor) -> Tensor:
    """Root mean square of the Laplacian of ``[N, T, H, W]`` luma, which measures fine detail and noise alike."""
    laplacian = brightness[..., 1:-1, 1:-1] * -4
    laplacian += brightness[..., 1:-1, :-2]
    laplacian += brightness[..., 1:-1, 2:]
    laplacian += brightness[..., :-2, 1:-1]
    laplacian += brightness[..., 2:, 1:-1]
    norm: Tensor = torch.linalg.vector_norm(laplacian, dim=(1, 2, 3))
    return norm / math.sqrt(laplacian[0].numel())


def sharpness_change(brightness: Tensor, anchor: Tensor) -> Tensor:
    """``|log2|`` of the ratio of `fine_detail` to that of the anchor's luma: 0 is equal, 1 is half or twice as much.

    Gains count like losses, because noise and over-sharpening look like detail.
    """
    ratio = (fine_detail(brightness) + HALF_LEVEL) / (fine_detail(anchor) + HALF_LEVEL)
    return ratio.log2().abs()


def speed(video: Tensor, fps: float) -> Tensor:
    """Typical speed of visible edges in frame heights per second; 0 for one frame.

    Change over time divided by change over space is the distance that edges move. It does not depend on the contrast or
    on the size of the moving object, and is 0 for an empty picture.
    """
    video = video.float()
    if video.shape[1] < 2:
        return video.mean((1, 2, 3, 4)) * 0
    across, down = video.diff(dim=4)[..., :-1, :], video.diff(dim=3)[..., :-1]
    edges = _visible(torch.hypot(across, down)).mean((1, 2, 3, 4))
    change = _visible(video.diff(dim=1).abs()).mean((1, 2, 3, 4))
    return change / (edges + FEW_EDGES) * fps / video.shape[3]


def steadiness(video: Tensor) -> Tensor:
    """Change over two frames divided by change over one: 2 is steady motion, 1 is noise or shuffling, 0 alternates.

    A still video counts as steady, and so do fewer than three frames.
    """
    video = video.float()
    if video.shape[1] < 3:
        return video.mean((1, 2, 3, 4)) * 0 + 2
    one = _visible(video.diff(dim=1).abs()).mean((1, 2, 3, 4))
    two = _visible((video[:, 2:] - video[:, :-2]).abs()).mean((1, 2, 3, 4))
    return (two + 2e-5) / (one + 1e-5)


def _visible(change: Tensor) -> Tensor:
    """Changes beyond the level of decoder noise."""
    return (change - INVISIBLE).clamp(min=0)
