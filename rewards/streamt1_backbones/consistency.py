"""Consistency as in VBench: the similarity of each frame of a video to the first and to the previous frame."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from streamt1_backbones.feature_cache import FeatureCache
from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import functional
else:
    torch, functional = deferred("torch"), deferred("torch.nn.functional")

Weight = Annotated[float, Field(ge=0)]
ANCHORS = 4
"""First frames whose features are kept: those of the branches that are alive."""


def consistency(features: Tensor, reference: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean cosine similarity to the first and to the previous frame, each in ``[0, 1]``; negative counts as 0.

    features: ``[T, D]``. reference: ``[D]``, the first frame of the whole video; None if it is the first of the T
    frames. A whole video gets VBench's numbers (https://github.com/Vchitect/VBench). The score is 1 where there is no
    other frame to compare with; NaN features give NaN.
    """
    features = features.float()
    one = 1 + features[0].mean() * 0  # keeps NaN
    if len(features) > 1:
        first = features[0] if reference is None else reference.float()
        to_first = functional.cosine_similarity(features[1:], first[None], dim=1).clamp(min=0).mean()
        return to_first, functional.cosine_similarity(features[1:], features[:-1], dim=1).clamp(min=0).mean()
    if reference is None:
        return one, one
    return functional.cosine_similarity(features[0], reference.float(), dim=0).clamp(min=0), one


@dataclass(kw_only=True)
class ConsistencyReward(Reward):
    """Base of rewards that score how similar a video's frames are, by the features of a network.

    A frozen video is perfectly consistent: never use such a reward without one that scores motion.

    first, previous: weights of the similarity to the first frame of the whole video and to the previous frame.
    batch: frames in one forward pass. cache_mb: size in MB of the cache for features of frames that earlier chunks had.
    """

    batch_exact: ClassVar[bool] = True

    first: Weight = 1.0
    previous: Weight = 1.0
    batch: Annotated[int, Field(ge=1)] = 16
    cache_mb: Annotated[float, Field(ge=0)] = 64.0

    def __post_init__(self) -> None:
        if not self.first + self.previous > 0:
            raise ValueError("at least one of first and previous must be above 0")

    @abstractmethod
    def features(self, frames: Tensor) -> Tensor:
        """Features ``[M, D]`` of ``[M, 3, H, W]`` frames in ``[0, 1]``."""

    def score(self, inp: RewardInput) -> RewardOutput:
        """The weighted mean of the two terms, ``[N]`` in ``[0, 1]``; `parts` has each term."""
        rows = [self._terms(inp.take([row])) for row in range(len(inp.prompts))]
        first, previous = (torch.stack(term) for term in zip(*rows, strict=True))
        total = (self.first * first + self.previous * previous) / (self.first + self.previous)
        return RewardOutput(total, {"first": first, "previous": previous})

    @abstractmethod
    def release(self) -> None:
        """Free the network."""

    def offload(self) -> None:
        """Free the network and keep the cached features."""
        self.release()

    def unload(self) -> None:
        self.release()
        self.reset()

    def reset(self) -> None:
        self._cache.clear()
        self._anchors.clear()

    def _terms(self, inp: RewardInput) -> tuple[Tensor, Tensor]:
        keys = inp.frame_ids[0] if inp.frame_ids else ()
        found = self._cache.features(inp.video[0], keys, self.features, self.batch)
        return consistency(found, None if inp.anchor is None else self._reference(inp.anchor[0, :1]))

    def _reference(self, frame: Tensor) -> Tensor:
        """The features ``[D]`` of a branch's first frame ``[1, 3, H, W]``, which most candidates share."""
        for known, features in self._anchors:
            if known.device == frame.device and torch.equal(known, frame):
                return features
        found = self.features(frame)[0]
        if self.cache_mb:
            self._anchors.append((frame.clone(), found))
        return found

    @cached_property
    def _anchors(self) -> deque[tuple[Tensor, Tensor]]:
        return deque(maxlen=ANCHORS)

    @cached_property
    def _cache(self) -> FeatureCache:
        return FeatureCache(self.cache_mb)
