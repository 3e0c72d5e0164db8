"""The contract of a reward: frames and prompts in, one number per candidate out, everything in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from streamt1_plugins.contracts import Horizon

FrameKey = tuple[str, int]
"""(id of the candidate a frame belongs to, frame inside its chunk): the same key always means the same pixels."""


@dataclass(frozen=True, slots=True)
class RewardInput:
    """What a reward may look at. Nothing here may be changed in place.

    video: ``[N, T, 3, H, W]`` float in ``[0, 1]``; the new chunk (short horizon) or the sliding window (long).
    prompts: N prompts. fps: frames per second. chunk: index of the newest chunk, `chunk_count` of the video.
    new_frames: the part of T that is the new chunk. anchor: ``[N, T0, 3, H, W]``, the first chunk of each candidate's
    branch (they differ), None while the first chunk is the one being scored. frame_ids: N lists of T lineage keys.
    """

    video: Tensor
    prompts: tuple[str, ...]
    fps: float
    chunk: int
    chunk_count: int
    new_frames: slice
    anchor: Tensor | None = None
    frame_ids: tuple[tuple[FrameKey, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class RewardOutput:
    """`scores`: ``[N]`` float, higher is better; NaN makes that candidate invalid. `parts`: named ``[N]`` details."""

    scores: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Reward(ABC):
    """Base of reward plugins: declare, optionally load, score.

    Subclass as a dataclass; its fields are the recipe's `options`. A reward is called under ``torch.inference_mode``
    and must leave its inputs and torch's global random state alone.
    """

    horizons: ClassVar[tuple[Horizon, ...]] = ("short", "long")
    needs_prompt: ClassVar[bool] = False
    licence: ClassVar[str] = "Apache-2.0"
    weights: ClassVar[str] = "none"

    def load(self, device: str) -> None:  # noqa: B027  (most weight-free rewards have nothing to load)
        """Bring weights to `device`; called once, before the first `score`."""

    @abstractmethod
    def score(self, inp: RewardInput) -> RewardOutput:
        """Judge N candidates at once; the result must not depend on which candidates share the batch."""

    def unload(self) -> None:  # noqa: B027  (as for `load`)
        """Free what `load` brought."""
