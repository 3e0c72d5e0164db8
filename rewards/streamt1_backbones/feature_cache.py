"""A cache of features by frame: candidates share the frames of their parents, and sliding windows overlap."""

from __future__ import annotations

from itertools import accumulate, groupby
from typing import TYPE_CHECKING

from streamt1_plugins.api.image_reward import MEBIBYTE, TensorCache
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from streamt1_plugins.api.reward import FrameKey
else:
    torch = deferred("torch")


class FeatureCache:
    """A cache of features by frame key. megabytes: its size, 0 for no cache.

    The frames of a chunk are always computed together and without others, so features do not depend, to the last bit,
    on the other frames or on what is cached.
    """

    def __init__(self, megabytes: float) -> None:
        self._cache: TensorCache[tuple[FrameKey, ...]] = TensorCache(megabytes * MEBIBYTE)

    def __len__(self) -> int:
        return len(self._cache)

    def clear(self) -> None:
        """Empty the cache."""
        self._cache.clear()

    def features(
        self, video: Tensor, keys: tuple[FrameKey, ...], compute: Callable[[Tensor], Tensor], limit: int
    ) -> Tensor:
        """Features ``[T, ...]`` of the frames ``[T, 3, H, W]`` of one candidate.

        keys: of the T frames; empty if they have none, and then nothing is cached. compute: returns the features of
        some frames. limit: the largest number of frames in one call of `compute`.
        """
        if not keys:
            return torch.cat([compute(video[i : i + limit]) for i in range(0, len(video), limit)])
        chunks = [tuple(chunk) for _, chunk in groupby(keys, key=lambda key: key[0])]
        ends = list(accumulate(len(chunk) for chunk in chunks))
        parts = [video[end - len(chunk) : end] for end, chunk in zip(ends, chunks, strict=True)]
        return torch.cat([self._chunk(part, chunk, compute, limit) for part, chunk in zip(parts, chunks, strict=True)])

    def _chunk(
        self, frames: Tensor, keys: tuple[FrameKey, ...], compute: Callable[[Tensor], Tensor], limit: int
    ) -> Tensor:
        found = self._cache.get(keys)
        if found is None:
            found = torch.cat([compute(frames[i : i + limit]) for i in range(0, len(frames), limit)])
            self._cache.put(keys, found)
        return found
