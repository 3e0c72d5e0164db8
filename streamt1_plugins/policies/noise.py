"""Stream-Scaled Noise Propagation (paper, unit 1): a chunk's noise mixes in its parent's proven noise."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.api.noise import chunk_noise, draws_of
from streamt1_plugins.api.types import Draws, Proposal
from streamt1_plugins.config.rewards import Device
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.process.imports import deferred
from streamt1_plugins.process.placement import checked

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk
else:
    torch = deferred("torch")


def propagate(parent: Tensor, fresh: Tensor, sigma: float) -> Tensor:
    """``z = sigma * z_parent + sqrt(1 - sigma^2) * eps``, in the dtype of the noise.

    Keeps unit variance exactly when `fresh` is independent of `parent`, which is the parent's noise after its own
    mixing (the chain is AR(1)). A negative sigma, the release's default, pushes successive noises apart.
    """
    return sigma * parent + math.sqrt(1 - sigma**2) * fresh


def fresh_seed(base: int, chunk: int, parent: int, index: int) -> int:
    """A seed of its own for every (chunk, parent rank, index): 63 bits of a hash, so collisions do not happen."""
    digest = hashlib.blake2b(f"{base}/{chunk}/{parent}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def release_seed(base: int, chunk: int, parent: int, index: int, last: int | None) -> int:
    """The seed rule of the authors' release: child 0 reuses its parent's last seed for ever.

    Child 0's noise is then not independent of its parent's (the mix loses variance), and seeds collide from 100
    children or 10 parents on. For parity only.
    """
    if last is None:
        return (base + index) % 2**64
    return last if index == 0 else (base + 1000 * chunk + 100 * parent + index) % 2**64


def inherited(parent: Tensor, fresh: Tensor, sigma: float, draws: Draws) -> Tensor | None:
    """`fresh` noise of a chunk with the parent's mixed in, draw by draw; None where the two have no draw in common.

    The draws are matched by their place; where one of the chunks takes more of them, its later ones stay fresh. Chunks
    of another length (a short last one) have nothing to inherit.
    """
    ours, theirs = draws_of(fresh), draws_of(parent)
    if ours.shape[2:] != theirs.shape[2:]:
        return None
    shared = 1 if draws == "initial" else min(ours.shape[1], theirs.shape[1])
    mixed = torch.cat([propagate(theirs[:, :shared], ours[:, :shared], sigma), ours[:, shared:]], 1)
    return mixed.view_as(fresh)


@dataclass(frozen=True)
class Propagate:
    """Branches a beam into as many proposals as the width policy wants.

    sigma: weight of the parent's noise, 0 is fresh noise only. draws: what inherits, the `initial` noise of a chunk
    (the paper), or `all` draws of its sampler where the adapter hands them out; where every step adds fresh noise, the
    initial noise alone may own next to nothing of a chunk. seeds: `fresh` (collision free) or `release` (parity).
    device: where noise is drawn; on "cpu" every machine draws the same.
    """

    sigma: Annotated[float, Field(ge=-1, le=1)] = -0.1
    seeds: Literal["fresh", "release"] = "fresh"
    device: Device = "cpu"
    draws: Draws = "initial"

    @hookimpl
    def streamt1_propose_noise(self, run: Run, chunk: Chunk, beam: Beam, count: int) -> list[Proposal]:
        checked(self.device, "noise.device", RecipeError)
        seeds = [self._seed(run.seed, chunk, beam, index) for index in range(count)]
        return [self._proposal(run.session, beam, seed) for seed in seeds]

    def _seed(self, base: int, chunk: Chunk, beam: Beam, index: int) -> int:
        if self.seeds == "fresh":
            return fresh_seed(base, chunk.index, beam.rank, index)
        return release_seed(base, chunk.index, beam.rank, index, beam.last.seed if beam.last else None)

    def _proposal(self, session: Session, beam: Beam, seed: int) -> Proposal:
        generator = torch.Generator(self.device).manual_seed(seed)
        fresh = chunk_noise(session, beam.history, generator)
        mixes = self.sigma != 0 and beam.noise is not None
        mixed = inherited(beam.noise, fresh, self.sigma, self.draws) if mixes and beam.noise is not None else None
        return Proposal(seed, fresh if mixed is None else mixed, generator, propagated=mixed is not None)
