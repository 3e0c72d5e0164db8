"""Features by frame: candidates share the frames of their parents, and sliding windows show each frame many times."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from torch import Tensor

    from streamt1_plugins.reward import FrameKey, RewardInput

MEGABYTE = 2**20


def fingerprints(items: Tensor) -> list[bytes]:
    """16 bytes per item of ``[M, ..., H, W]`` frames in ``[0, 1]``, from their 8-bit levels: equal pixels, equal bytes.

    Sums of whole numbers do not depend on the batch, as sums of floats would.
    """
    levels = (items.flatten(1, -3) * 255).round().to(torch.int32)
    weights = torch.arange(1, levels.shape[1] + 1, dtype=torch.int32, device=items.device).view(1, -1, 1, 1)
    weighted = (levels * weights).sum(1, dtype=torch.int32)
    sums = torch.cat([weighted.sum(1, dtype=torch.int32), weighted.sum(2, dtype=torch.int32)], dim=1).cpu()
    return [blake2b(row.numpy().tobytes(), digest_size=16).digest() for row in sums]


def keys_of(inp: RewardInput) -> list[FrameKey | None]:
    """One key per frame, candidate after candidate; None where frames have no names."""
    if inp.frame_ids:
        return [key for row in inp.frame_ids for key in row]
    return [None] * (inp.video.shape[0] * inp.video.shape[1])


class FeatureMemory:
    """The least recently used features are forgotten first. `megabytes`: how much is kept, 0 for nothing.

    Keys name frames of one run, and another run of the same pipeline uses them again: the pixels' fingerprint is
    part of what is looked up.
    """

    def __init__(self, megabytes: float) -> None:
        self._limit = megabytes * MEGABYTE
        self._bytes = 0.0
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._bytes = 0.0

    def features(
        self, items: Tensor, keys: Sequence[Hashable | None], compute: Callable[[Tensor], Tensor], batch: int
    ) -> Tensor:
        """``[M, ...]`` features of ``[M, ...]`` items; `compute` sees only new ones, at most `batch` at a time."""
        if self._limit <= 0 or any(key is None for key in keys):
            return torch.cat([compute(part) for part in items.split(batch)])
        named = list(zip(keys, fingerprints(items), strict=True))
        rows = {name: row for row, name in reversed(list(enumerate(named)))}  # the first row of every distinct item
        found = {name: self._kept[name] for name in rows if name in self._kept}
        missing = [name for name in rows if name not in found]
        for start in range(0, len(missing), batch):
            part = missing[start : start + batch]
            found.update(zip(part, compute(items[[rows[name] for name in part]]).unbind(), strict=True))
        self._keep(found)
        return torch.stack([found[name] for name in named])

    def _keep(self, found: dict[tuple[Hashable | None, bytes], Tensor]) -> None:
        for name, features in found.items():
            if name not in self._kept:
                self._kept[name] = features.clone()  # a row of a batch would keep the whole batch alive
                self._bytes += features.nbytes
            self._kept.move_to_end(name)
        while self._bytes > self._limit:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
