"""Survivors by chance: the control of every comparison, with the same candidates and no reward that decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.policies.noise import fresh_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk

CHANCE = -1
"""The parent's rank in seeds that belong to a selection: beams count from 0, so no candidate has such a seed."""


def uniform(seed: int, chunk: int, index: int) -> float:
    """Number `index` of a chunk's draws from [0, 1), the same for a resumed run and in every process."""
    return fresh_seed(seed, chunk, CHANCE, index) / 2**63


@dataclass(frozen=True)
class RandomPick:
    """`search.top_k` candidates, drawn uniformly without replacement; the first one drawn ranks first.

    What a search gains over it is what the rewards gain: noise, candidates and forwards are the same. It needs no
    rewards, and those that the adapter suggests are left out: survivors alone are decoded. Rewards that the
    recipe names are measured and recorded, and decide nothing here; `search.final: last_chunk` keeps them from choosing
    the winner.
    """

    needs_frames: ClassVar[bool] = False
    needs_rewards: ClassVar[bool] = False

    @hookimpl
    def streamt1_select(self, run: Run, chunk: Chunk, candidates: Sequence[Candidate]) -> list[Candidate]:
        drawn = sorted(candidates, key=lambda each: (uniform(run.seed, chunk.index, each.ordinal), each.ordinal))
        return drawn[: run.recipe.search.top_k]
