"""The video model as rewards may use it: predictions for the newest chunks of candidates, counted like all forwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.adapter import CanPredict
from streamt1_plugins.errors import PluginError, foreign_code
from streamt1_plugins.evaluation.cascade import stages
from streamt1_plugins.plugins.resolve import cannot_predict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.evaluation.pool import BoundReward
    from streamt1_plugins.search.offload import Offload


def prediction_problem(session: Session) -> str | None:
    """Why a session cannot run its denoiser on given latents, None where it can."""
    if isinstance(session, CanPredict):
        return session.prediction_problem
    return session.capabilities.refusals.get("predictions", "the adapter has no `predict`")


def check(run: Run, rewards: Iterable[BoundReward]) -> None:
    """Raise `RecipeError` for rewards that judge with the video model where the run's session cannot predict."""
    problem = prediction_problem(run.session)
    if problem:
        for bound in rewards:
            if bound.denoiser_calls:
                raise cannot_predict(bound, run.recipe.adapter.name, problem)


def predictions(recipe: Recipe, rewards: Iterable[BoundReward]) -> int:
    """The most predictions that the rewards take for one candidate: a preview has those of the first stage besides."""
    first, *others = stages(rewards) or [[]]
    calls = [sum(bound.denoiser_calls for bound in stage) for stage in (first, *others)]
    return sum(calls) + (calls[0] if recipe.early.steps else 0)


def seed_of(run_seed: int, chunk: int, draw: int) -> int:
    """The seed of one draw of noise; hashed, so that it is no seed of a candidate, whose own noise would score best."""
    return int.from_bytes(sha256(f"{run_seed} {chunk} {draw}".encode()).digest()[:8], "big") >> 1


@dataclass
class CandidateDenoiser:
    """Implements `api.reward.Denoiser` for candidates of one chunk, whose tensors are in this process.

    `limit` gives the most rows that the model may be given at once. Candidates of one beam are predicted together.
    """

    run: Run
    offload: Offload
    limit: Callable[[], int]
    candidates: tuple[Candidate, ...]

    @cached_property
    def latents(self) -> Tensor:
        """``[N, C, F, h, w]`` float32."""
        return torch.cat([each.latents for each in self.candidates]).float()

    @cached_property
    def before(self) -> Tensor | None:
        """``[N, C, 1, h, w]`` float32; None where the video begins."""
        pasts = [each.beam.history.latents for each in self.candidates]
        return torch.cat([past[-1][:, :, -1:] for past in pasts]).to(self.latents) if all(pasts) else None

    def noise(self, draw: int) -> Tensor:
        """Standard normal noise; made on the CPU, so that every device has the same."""
        stream = torch.Generator().manual_seed(seed_of(self.run.seed, self.candidates[0].chunk, draw))
        return torch.randn(self.latents.shape[1:], generator=stream).to(self.latents).expand_as(self.latents)

    @torch.inference_mode(False)
    @torch.no_grad()
    def predict(self, noisy: Tensor, sigma: float, *, prompted: bool = True) -> Tensor:
        """The flow of each candidate after its own history, ``[N, C, F, h, w]`` float32."""
        if noisy.shape != self.latents.shape:
            raise PluginError(f"predict() got latents {list(noisy.shape)}, expected {list(self.latents.shape)}.")
        name = self.run.recipe.adapter.name
        noisy = noisy.clone()  # what rewards make are inference tensors, which a model may not take
        with self.run.counting(), foreign_code(f"predict() of adapter {name!r}", passes=PluginError):
            parts = [self._flow(beam, noisy[rows], sigma, prompted) for beam, rows in self._batches()]
            flow = torch.cat(parts).float()
        if flow.shape != noisy.shape:
            raise PluginError(
                f"predict() of adapter {name!r} gave a flow {list(flow.shape)}, expected {list(noisy.shape)}."
            )
        return flow

    def take(self, rows: Sequence[int]) -> CandidateDenoiser:
        """The same for the candidates `rows` alone, in that order."""
        return replace(self, candidates=tuple(self.candidates[row] for row in rows))

    def _flow(self, beam: Beam, noisy: Tensor, sigma: float, prompted: bool) -> Tensor:
        session = self.run.session
        if not isinstance(session, CanPredict):
            raise PluginError(f"The adapter cannot predict: {prediction_problem(session)}.")
        return session.predict(self.offload.onload_beam(beam).history, noisy, sigma, prompted=prompted)

    def _batches(self) -> Iterator[tuple[Beam, slice]]:
        """Neighbours with the same beam, as many as may be given at once."""
        start = 0
        for _, group in groupby(self.candidates, key=lambda each: id(each.beam)):
            left = list(group)
            while left:
                count = min(len(left), self.limit())
                yield left[0].beam, slice(start, start + count)
                left, start = left[count:], start + count
