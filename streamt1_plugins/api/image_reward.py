"""Base of rewards that judge single frames: a plugin scores frames, the base does everything else."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

from cachetools import LRUCache
from pydantic import Field

from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput, as_slice
from streamt1_plugins.errors import PluginError
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Hashable

    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

MEBIBYTE = 2**20
ENTRY = 256  # bytes an entry costs besides its numbers
Key = TypeVar("Key", bound="Hashable")


class TensorCache(LRUCache[Key, "Tensor"]):
    """Cache of tensors with at most `limit` bytes; the least recently used one leaves first."""

    def __init__(self, limit: float) -> None:
        super().__init__(limit, _size)

    def put(self, key: Key, value: Tensor) -> None:
        """Keep a tensor, unless it alone is larger than the limit."""
        with suppress(ValueError):
            self[key] = value


def _size(value: Tensor) -> int:
    return value.numel() * value.element_size() + ENTRY


@dataclass(kw_only=True)
class ImageReward(Reward):
    """Base of rewards that judge single frames: implement `score_frames`, and declare what `Reward` declares.

    Options of every such reward: every: score each k-th frame of a chunk. reduce: how a candidate's frames become one
    score: `mean`, `min` (the worst frame) or `trimmed` (the mean without the lowest and the highest tenth). cache_mb:
    memory for the scores of frames that will be seen again in the sliding window; 0 turns it off.

    `batch_limit` counts frames here. The frames of one chunk of one candidate always share a call, and never with
    others: a score depends neither on the rest of the batch nor on what is cached, to the last bit.
    """

    batch_exact: ClassVar[bool] = True

    every: Annotated[int, Field(ge=1)] = 1
    reduce: Literal["mean", "min", "trimmed"] = "mean"
    cache_mb: Annotated[float, Field(ge=0)] = 4.0

    @abstractmethod
    def score_frames(self, frames: Tensor, prompts: tuple[str, ...]) -> Tensor:
        """Scores ``[M]``, higher is better, of frames ``[M, 3, H, W]`` float32 in ``[0, 1]`` and their M prompts."""

    def score(self, inp: RewardInput) -> RewardOutput:
        """The reduced scores of all frames; `parts` has the worst frame's."""
        rows = [self._row(inp.take([row])) for row in range(len(inp.prompts))]
        worst = torch.stack([row.min() for row in rows])
        return RewardOutput(torch.stack([self._reduced(row) for row in rows]), {"worst": worst})

    def reset(self) -> None:
        self._cache.clear()

    @cached_property
    def _cache(self) -> TensorCache[Hashable]:
        return TensorCache(self.cache_mb * MEBIBYTE)

    def _row(self, inp: RewardInput) -> Tensor:
        """Scores of one candidate's frames, chunk by chunk."""
        keys = inp.frame_ids[0] if inp.frame_ids else tuple(("", frame) for frame in range(inp.video.shape[1]))
        chosen = [t for t, (_, frame) in enumerate(keys) if frame % self.every == 0] or [len(keys) - 1]
        groups = [list(group) for _, group in groupby(chosen, key=lambda t: keys[t][0])]
        return torch.cat([self._group(inp, group) for group in groups])

    def _group(self, inp: RewardInput, frames: list[int]) -> Tensor:
        if not inp.frame_ids:
            return self._scored(inp, frames)
        key = (inp.prompts[0], tuple(inp.frame_ids[0][frame] for frame in frames))
        found = self._cache.get(key)
        if found is None:
            found = self._scored(inp, frames)
            self._cache.put(key, found)
        return found

    def _scored(self, inp: RewardInput, frames: list[int]) -> Tensor:
        """Scores of the chosen frames of one candidate, at most `batch_limit` in a call; float32 on the CPU."""
        limit, scores = self.batch_limit or len(frames), []
        for start in range(0, len(frames), limit):
            part = inp.video[0, as_slice(frames[start : start + limit])]
            found = self.score_frames(part, inp.prompts * len(part))
            if tuple(found.shape) != (len(part),):
                raise PluginError(f"score_frames returned shape {tuple(found.shape)}, expected ({len(part)},).")
            scores.append(found.float().cpu())
        return torch.cat(scores)

    def _reduced(self, scores: Tensor) -> Tensor:
        if self.reduce == "min":
            return scores.min()
        cut = max(1, len(scores) // 10) if self.reduce == "trimmed" and len(scores) > 2 else 0
        return scores.sort().values[cut : len(scores) - cut].mean() if cut else scores.mean()
