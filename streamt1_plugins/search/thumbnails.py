"""What a process knows of a candidate that another one made: its record, its noise, and a few small frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.candidate import Candidate

FRAMES, HEIGHT = 12, 112
"""The most a preview shows: enough for the film strips of a run's page."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What the others are told of a candidate: the seconds it took and its preview, ``[T, 3, h, w]`` bytes."""

    seconds: float
    frames: Tensor


def trace(candidate: Candidate, with_frames: bool) -> Trace:
    """A candidate's trace, without pictures where nobody looks at them."""
    return Trace(candidate.seconds, shrunk(candidate.decoded.frames if with_frames else torch.empty(0, 3, 1, 1)))


def shrunk(frames: Tensor) -> Tensor:
    """At most `FRAMES` of the frames, evenly chosen, at most `HEIGHT` pixels high, as bytes on the CPU."""
    count = min(len(frames), FRAMES)
    chosen = frames[[round(i * (len(frames) - 1) / max(1, count - 1)) for i in range(count)]].float()
    height, width = chosen.shape[-2:]
    if count and height > HEIGHT:
        chosen = interpolate(chosen, (HEIGHT, max(1, round(width * HEIGHT / height))), mode="area")
    return (chosen.clamp(0, 1) * 255).round().byte().cpu()
