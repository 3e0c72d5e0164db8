"""Thumbnails: a few small frames, and averaged latents, stand for a candidate where another process has its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.candidate import Candidate

FRAMES, HEIGHT = 12, 112
"""The most that a thumbnail shows: enough for the film strips of a run's page."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What other processes get of a candidate before the selection.

    `seconds`: how long it took. `frames`: its thumbnail, ``[T, 3, h, w]`` bytes. `batch_limit`: how many candidates at
    once turned out to fit into the process's memory, None where all did. `features`: see `Candidate.features`.
    """

    seconds: float
    frames: Tensor
    batch_limit: int | None = None
    features: Tensor | None = None


def summarize(candidate: Candidate, with_frames: bool, batch_limit: int | None, with_features: bool = False) -> Summary:
    """A candidate's summary; without frames where no page or tracker shows them."""
    frames = candidate.decoded.frames if with_frames else torch.empty(0, 3, 1, 1)
    features = candidate.features if with_features else None
    return Summary(candidate.seconds, thumbnail(frames), batch_limit, features)


def thumbnail(frames: Tensor) -> Tensor:
    """At most `FRAMES` of the frames, evenly chosen, at most `HEIGHT` pixels high, as bytes on the CPU."""
    count = min(len(frames), FRAMES)
    chosen = frames[[round(i * (len(frames) - 1) / max(1, count - 1)) for i in range(count)]].float()
    height, width = chosen.shape[-2:]
    if count and height > HEIGHT:
        chosen = interpolate(chosen, (HEIGHT, max(1, round(width * HEIGHT / height))), mode="area")
    return (chosen.clamp(0, 1) * 255).round().byte().cpu()
