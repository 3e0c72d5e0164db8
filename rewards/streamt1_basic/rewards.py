"""The weight-free rewards. Every score lies in ``[0, 1]``; 1 means nothing is wrong.

All judge the new frames; what the horizon shows before them, and the anchor, is what they are compared with. Where
there is nothing to compare with (the first chunk, a single frame) the score is 1 for every candidate alike.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from streamt1_basic import metrics
from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAD = 4  # frames before the new ones that are looked at: enough to see how things moved up to the boundary
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


class View:
    """One reward input as the measures need it; each form of the frames is made once, and only if it is used."""

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
        """``[N, lead + new, 3, h, w]``: the new frames and those just before them, shrunk."""
        return metrics.shrink(self._recent)

    @property
    def small_new(self) -> Tensor:
        return self.small[:, self.lead :]

    @cached_property
    def small_anchor(self) -> Tensor:
        return metrics.shrink(self._anchor if self._anchor is not None else self.new)

    @cached_property
    def luma(self) -> Tensor:
        """``[N, new, H, W]`` brightness of the new frames in full resolution."""
        return metrics.luma(self.new)

    @cached_property
    def anchor_luma(self) -> Tensor:
        return metrics.luma(self._anchor) if self._anchor is not None else self.luma


class FaultReward(Reward):
    """A reward that looks for one kind of fault."""

    def score(self, inp: RewardInput) -> RewardOutput:
        return RewardOutput(self.judge(View(inp)))

    @abstractmethod
    def judge(self, view: View) -> Tensor:
        """``[N]`` in ``[0, 1]``."""


@dataclass
class Flicker(FaultReward):
    """Brightness that jumps to and fro. half: mean luma second difference (0..2) that scores 0.5."""

    half: Positive = 0.02

    def judge(self, view: View) -> Tensor:
        return metrics.falling(metrics.luma_second_difference(view.small), self.half)


@dataclass
class Seam(FaultReward):
    """A visible cut where the new chunk begins.

    half: by how much the change at the boundary exceeds that between neighbours for a score of 0.5 (1 = twice it).
    """

    lead_frames: ClassVar[int] = 1

    half: Positive = 1.0

    def judge(self, view: View) -> Tensor:
        excess = (metrics.boundary_ratio(view.small, view.lead) - 1).clamp(min=0)
        return metrics.falling(excess, self.half)


@dataclass
class Drift(FaultReward):
    """Colours, brightness and contrast that leave those of the first chunk. half: `colour_shift` that scores 0.5."""

    half: Positive = 0.06

    def judge(self, view: View) -> Tensor:
        return metrics.falling(metrics.colour_shift(view.small_new, view.small_anchor), self.half)


@dataclass
class Exposure(FaultReward):
    """Colours burnt to white or sunk to black. allowed: share 0..1 that costs nothing; half: excess that scores 0.5."""

    allowed: Annotated[float, Field(ge=0, le=1)] = 0.1
    half: Positive = 0.2

    def judge(self, view: View) -> Tensor:
        excess = (metrics.clipped_share(view.new) - self.allowed).clamp(min=0)
        return metrics.falling(excess, self.half)


@dataclass
class Sharpness(FaultReward):
    """Fine detail lost (blur) or gained (noise) since the first chunk. half: octaves of change that score 0.5."""

    half: Positive = 1.0

    def judge(self, view: View) -> Tensor:
        return metrics.falling(metrics.sharpness_change(view.luma, view.anchor_luma), self.half)


@dataclass
class Dynamics(FaultReward):
    """A band of motion: still, empty, hectic and chaotic videos score low.

    slow, fast: the band's ends in frame heights per second; below, the score falls to 0 with the square of the speed.
    half: what `steadiness` (2 = steady) lacks, and the share by which speed exceeds `fast`, for a score of 0.5.
    """

    slow: Positive = 0.03
    fast: Positive = 0.8
    half: Positive = 0.5

    def judge(self, view: View) -> Tensor:
        speed = metrics.speed(view.small_new, view.fps)
        if view.small_new.shape[1] < 2:
            return torch.ones_like(speed) + speed  # one frame cannot move; NaN pixels still count
        moving = (speed / self.slow).clamp(max=1).square()
        hectic = (speed / self.fast - 1).clamp(min=0)
        unsteady = (2 - metrics.steadiness(view.small)).clamp(min=0)
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
FLOOR = 0.01  # keeps the product's order alive when one factor is zero


@dataclass
class Basic(Reward):
    """All faults in one: the weighted geometric mean of the six scores, so one gross fault spoils a clip.

    A plain mean would let five perfect scores hide a frozen video. Options are the weights; 0 leaves a fault out.
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
        view, weights = View(inp), self._weights()
        parts = {name: FAULTS[name].judge(view) for name, weight in weights.items() if weight > 0}
        logs = torch.stack([weights[name] * part.clamp(min=FLOOR).log() for name, part in parts.items()])
        return RewardOutput((logs.sum(0) / sum(weights.values())).exp(), parts)

    def _weights(self) -> dict[str, float]:
        return {field.name: float(getattr(self, field.name)) for field in fields(self)}
