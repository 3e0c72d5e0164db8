"""The base of consistency rewards: what it computes once, and that remembering changes no score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from streamt1_backbones.consistency import ConsistencyReward
from streamt1_plugins.api.reward import RewardInput

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Pooled(ConsistencyReward):
    """Features are small pictures; counts the frames that it computes them of."""

    seen: list[int] = field(default_factory=list)

    def features(self, frames: Tensor) -> Tensor:
        self.seen.append(len(frames))
        return torch.nn.functional.adaptive_avg_pool2d(frames, 4).flatten(1)

    def release(self) -> None:
        """There is no network."""


def candidates(chunk: int, branches: tuple[int, ...]) -> RewardInput:
    """A candidate per entry, whose branch begins with that first chunk; the newest of `chunk` + 1 chunks is its own."""
    rows, ids = [], []
    for ordinal, branch in enumerate(branches):
        names = [f"{index:03d}.{branch:02d}" for index in range(chunk)] + [f"{chunk:03d}.{ordinal:02d}"]
        rows.append(torch.cat([noise(name) for name in names]))
        ids.append(tuple((name, frame) for name in names for frame in range(3)))
    anchor = torch.stack([noise(f"000.{branch:02d}") for branch in branches])
    video = torch.stack(rows)
    return RewardInput(video, ("",) * len(rows), 8.0, chunk, 9, slice(3 * chunk, 3 * chunk + 3), anchor, tuple(ids))


def noise(name: str) -> Tensor:
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(int(name.replace(".", ""))))


def test_a_branchs_first_frame_is_looked_at_once() -> None:
    reward = Pooled()
    reward.score(candidates(1, (0, 0, 1, 1)))
    assert sorted(reward.seen) == [1, 1, 3, 3, 3, 3, 3, 3]  # two anchors, two first chunks, four new ones
    reward.seen.clear()
    reward.score(candidates(2, (0, 1)))
    assert 1 not in reward.seen
    reward.reset()
    reward.score(candidates(2, (0, 1)))
    assert reward.seen.count(1) == 2


def test_what_it_remembers_changes_no_bit() -> None:
    remembering, fresh = Pooled(), Pooled(cache_mb=0)
    for chunk in (1, 2, 3):
        inp = candidates(chunk, (0, 0, 1, 2, 1))
        assert torch.equal(remembering.score(inp).scores, fresh.score(inp).scores)
    assert sum(fresh.seen) > 2 * sum(remembering.seen)
