"""Smoothness of the optical flow, which accelerates at jumps and in shuffled frames (OpenCV's DIS, extra `flow`)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import cv2
import numpy as np
from pydantic import Field

from streamt1_basic.metrics import falling
from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

SIDE = 256  # pixels of the shorter side of the frames: half the time of 480 without visible loss


@dataclass
class Flow(Reward):
    """Evenness of motion, 0..1; 1 is uniform motion. Fewer than three frames score 1.

    half: the acceleration that scores 0.5, in frame heights per second squared. A frozen video scores 1, so combine
    this reward with `dynamics`.
    """

    half: Annotated[float, Field(gt=0)] = 3.0

    batch_exact: ClassVar[bool] = True
    lead_frames: ClassVar[int] = 2

    def score(self, inp: RewardInput) -> RewardOutput:
        start, stop, _ = inp.new_frames.indices(inp.video.shape[1])
        recent = inp.video[:, max(0, start - 2) : stop]
        # OpenCV takes one pair of frames at a time, in CPU memory.
        found = torch.tensor([acceleration(video, inp.fps) for video in recent], device=inp.video.device)
        return RewardOutput(falling(found, self.half))


def acceleration(video: Tensor, fps: float) -> float:
    """Mean change of the flow between neighbouring frame pairs of ``[T, 3, H, W]``, in heights per second squared."""
    if not torch.isfinite(video).all():
        return float("nan")
    pictures = _gray(video)
    dis: Any = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # type: ignore[attr-defined]
    flows = [dis.calc(one, two, None) for one, two in pairwise(pictures)]
    if len(flows) < 2:
        return 0.0
    change = np.linalg.norm(np.diff(np.stack(flows), axis=0), axis=-1).mean()
    height: int = pictures[0].shape[0]
    return float(change) / height * fps**2


def _gray(video: Tensor) -> list[Any]:
    """8-bit brightness ``[T, h, w]``, with a shorter side of at most `SIDE` pixels."""
    shorter = min(video.shape[-2:])
    if shorter > SIDE:
        video = torch.nn.functional.interpolate(video.float(), scale_factor=SIDE / shorter, mode="area")
    weights = torch.tensor([0.299, 0.587, 0.114], device=video.device).view(1, 3, 1, 1)
    gray = (video.float() * weights).sum(1).clamp(0, 1) * 255
    return list(gray.round().to(torch.uint8).cpu().numpy())
