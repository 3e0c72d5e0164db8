"""Features by frame: candidates share the frames of their parents, and sliding windows show each frame many times."""

from __future__ import annotations

from itertools import accumulate, groupby
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.image_reward import MEGABYTE, TensorCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from streamt1_plugins.api.reward import FrameKey


class FeatureMemory:
    """Features of frames, remembered by their keys. megabytes: how much is kept, 0 for nothing.

    The frames of one chunk always travel together, and never with others: features depend neither on the company nor
    on what is remembered, to the last bit.
    """

    def __init__(self, megabytes: float) -> None:
        self._cache: TensorCache[tuple[FrameKey, ...]] = TensorCache(megabytes * MEGABYTE)

    def __len__(self) -> int:
        return len(self._cache)

    def clear(self) -> None:
        """Forget everything."""
        self._cache.clear()

    def features(
        self, video: Tensor, keys: tuple[FrameKey, ...], compute: Callable[[Tensor], Tensor], limit: int
    ) -> Tensor:
        """``[T, ...]`` features of the frames ``[T, 3, H, W]`` of one candidate.

        keys: of the T frames; empty where they have no names, and nothing is remembered. compute: features of some
        frames. limit: the most frames of one call of `compute`.
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
