"""Rewards without weights. Every score is in ``[0, 1]``, where 1 means no fault.

All score the new frames, compared with the earlier frames of the horizon or with the anchor. Where there is nothing to
compare with (the first chunk, a single frame), every candidate scores 1.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from streamt1_basic import metrics
from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

LEAD = 4  # frames before the new ones that are used: enough to measure the motion up to the boundary
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class Frames:
    """The frames of a reward input in the forms that the measures read; each form is computed once, on first use."""

    def __init__(self, inp: RewardInput) -> None:
        start, stop, _ = inp.new_frames.indices(inp.video.shape[1])
        self.lead = min(start, LEAD)
        self.fps = inp.fps
        self.new = inp.video[:, start:stop]
        self._recent = inp.video[:, start - self.lead : stop]
        self._anchor = inp.anchor

    @property
    def has_anchor(self) -> bool:
        return self._anchor is not None

    @cached_property
    def small(self) -> Tensor:
        """The new frames and those just before them, shrunk: ``[N, lead + new, 3, h, w]``."""
        return metrics.shrink(self._recent)

    @property
    def small_new(self) -> Tensor:
        return self.small[:, self.lead :]

    @cached_property
    def small_anchor(self) -> Tensor:
        return metrics.shrink(self._anchor if self._anchor is not None else self.new)

    @cached_property
    def luma(self) -> Tensor:
        """Brightness of the new frames in full resolution: ``[N, new, H, W]``."""
        return metrics.luma(self.new)

    @cached_property
    def anchor_luma(self) -> Tensor:
        return metrics.luma(self._anchor) if self._anchor is not None else self.luma


class FaultReward(Reward):
    """Base of rewards that detect one kind of fault."""

    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(self.grade(Frames(inp)))

    @abstractmethod
    def grade(self, frames: Frames) -> Tensor:
        """Scores ``[N]`` in ``[0, 1]``."""


@dataclass
class Flicker(FaultReward):
    """Detects brightness that jumps up and down. half: mean second difference of luma (0..2) that scores 0.5."""

    half: Positive = 0.02

    def grade(self, frames: Frames) -> Tensor:
        return metrics.falling(metrics.luma_second_difference(frames.small), self.half)


@dataclass
class Seam(FaultReward):
    """Detects a visible cut where the new chunk begins.

    half: the excess of the change at the boundary over that between other frames that scores 0.5 (1 = twice as large).
    """

    lead_frames: ClassVar[int] = 1

    half: Positive = 1.0

    def grade(self, frames: Frames) -> Tensor:
        excess = (metrics.boundary_ratio(frames.small, frames.lead) - 1).clamp(min=0)
        return metrics.falling(excess, self.half)


@dataclass
class Drift(FaultReward):
    """Detects colours, brightness or contrast unlike the first chunk's. half: `colour_shift` that scores 0.5."""

    half: Positive = 0.06

    def grade(self, frames: Frames) -> Tensor:
        return metrics.falling(metrics.colour_shift(frames.small_new, frames.small_anchor), self.half)


@dataclass
class Exposure(FaultReward):
    """Detects colours clipped to white or black. allowed: share 0..1 without effect; half: excess that scores 0.5."""

    allowed: Annotated[float, Field(ge=0, le=1)] = 0.1
    half: Positive = 0.2

    def grade(self, frames: Frames) -> Tensor:
        excess = (metrics.clipped_share(frames.new) - self.allowed).clamp(min=0)
        return metrics.falling(excess, self.half)


@dataclass
class Sharpness(FaultReward):
    """Detects fine detail lost (blur) or gained (noise) since the first chunk. half: octaves that score 0.5."""

    half: Positive = 1.0

    def grade(self, frames: Frames) -> Tensor:
        return metrics.falling(metrics.sharpness_change(frames.luma, frames.anchor_luma), self.half)


@dataclass
class Dynamics(FaultReward):
    """Detects still, empty, hectic and chaotic videos.

    slow, fast: the range of good speeds in frame heights per second; below it the score falls with the square of the
    speed. half: the amount by which `steadiness` is below 2, or the relative excess of the speed over `fast`, that
    scores 0.5.
    """

    slow: Positive = 0.03
    fast: Positive = 0.8
    half: Positive = 0.5

    def grade(self, frames: Frames) -> Tensor:
        speed = metrics.speed(frames.small_new, frames.fps)
        if frames.small_new.shape[1] < 2:
            return torch.ones_like(speed) + speed  # one frame has no motion; the sum keeps NaN
        moving = (speed / self.slow).clamp(max=1).square()
        hectic = (speed / self.fast - 1).clamp(min=0)
        unsteady = (2 - metrics.steadiness(frames.small)).clamp(min=0)
        return moving * metrics.falling(hectic, self.half) * metrics.falling(unsteady, self.half)


FAULTS: Mapping[str, FaultReward] = MappingProxyType(
    {
        "flicker": Flicker(),
        "seam": Seam(),
        "drift": Drift(),
        "exposure": Exposure(),
        "sharpness": Sharpness(),
        "dynamics": Dynamics(),
    }
)
FLOOR = 0.01  # keeps the other factors effective when one is zero


@dataclass
class Basic(Reward):
    """Detects all six faults: the weighted geometric mean of their scores, so one gross fault lowers the whole score.

    In a plain mean, five perfect scores would hide a frozen video. The options are weights; 0 leaves a fault out.
    """

    lead_frames: ClassVar[int] = 1

    flicker: Weight = 1.0
    seam: Weight = 1.0
    drift: Weight = 1.0
    exposure: Weight = 1.0
    sharpness: Weight = 1.0
    dynamics: Weight = 1.0

    def __post_init__(self) -> None:
        if not any(self._weights().values()):
            raise ValueError("at least one weight must be above 0")

    def score(self, inp: RewardInput) -> RewardOutput:
        frames, weights = Frames(inp), self._weights()
        parts = {name: FAULTS[name].grade(frames) for name, weight in weights.items() if weight > 0}
        logs = torch.stack([weights[name] * part.clamp(min=FLOOR).log() for name, part in parts.items()])
        return RewardOutput((logs.sum(0) / sum(weights.values())).exp(), parts)

    def _weights(self) -> dict[str, float]:
        return {field.name: float(getattr(self, field.name)) for field in fields(self)}
