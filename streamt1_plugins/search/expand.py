"""Expansion: every beam branches into candidates, from noise proposals to decoded frames.

Candidates are denoised in batches as large as the recipe, the adapter and the device's memory allow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from streamt1_plugins.api.adapter import Decoded
from streamt1_plugins.api.candidate import Candidate
from streamt1_plugins.api.noise import chunk_noise, initial
from streamt1_plugins.api.types import Proposal, node_id
from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.errors import PluginError
from streamt1_plugins.search.out_of_memory import is_out_of_memory
from streamt1_plugins.search.thumbnails import Summary, summarize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Generator, Tensor

    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.plugins.run_hooks import RunHooks
    from streamt1_plugins.search.offload import Offload


class Branch(NamedTuple):
    """A candidate to be made: number `ordinal` of its chunk, from a proposal for a beam."""

    ordinal: int
    beam: Beam
    proposal: Proposal

    def candidate(self, chunk: Chunk, beam: Beam, **made: Any) -> Candidate:
        """The candidate, once its tensors are `made`; `beam` is the form of its parent that it keeps."""
        return Candidate(
            chunk=chunk.index,
            ordinal=self.ordinal,
            parent=beam.last.id if beam.last else None,
            seed=self.proposal.seed,
            propagated=self.proposal.propagated,
            noise=self.proposal.noise,
            beam=beam,
            **made,
        )

    def placeholder(self, chunk: Chunk, summary: Summary) -> Candidate:
        """The candidate where another process has its tensors."""
        decoded, nothing = Decoded(summary.frames.float() / 255), initial(self.proposal.noise)[:, :, :0]
        return self.candidate(
            chunk, self.beam, latents=nothing, decoded=decoded, seconds=summary.seconds, location="elsewhere"
        )


Step = Callable[["Chunk", "Beam", "Sequence[Branch]"], list[Candidate]]
"""Makes decoded candidates of a batch of one beam's branches. The beam is the one on the device."""


@dataclass
class Expander:
    """Makes the candidates of a run. `batch_limit`: how many at once fit into memory, None until it has run out."""

    run: Run
    hooks: RunHooks
    offload: Offload
    workers: Workers
    batch_limit: int | None = None

    def branches(self, chunk: Chunk) -> list[Branch]:
        """The branches of all beams, numbered."""
        beams = self.run.beams
        if self.run.is_plain:
            widths = [1] * len(beams)
        else:
            # The first process decides for all: a width policy may follow a clock.
            widths = self.workers.all_gather([self.hooks.width(chunk, beam) for beam in beams])[0]
        pairs = [(beam, p) for beam, width in zip(beams, widths, strict=True) for p in self.propose(chunk, beam, width)]
        return [Branch(ordinal, *pair) for ordinal, pair in enumerate(pairs)]

    def propose(self, chunk: Chunk, beam: Beam, width: int) -> Sequence[Proposal]:
        """The noise proposals of one beam.

        A plain run takes the pipeline's own noise stream, whatever the noise policy: off means off.
        """
        session = self.run.session
        if self.run.is_plain:
            own = session.generator
            return [Proposal(self.run.seed, chunk_noise(session, beam.history, own), own)]
        proposals = self.hooks.propose_noise(chunk, beam, width)
        if not proposals:
            raise PluginError("streamt1_propose_noise returned no proposals; a beam needs at least one.")
        if len({id(each.generator) for each in proposals}) < len(proposals):
            raise PluginError(
                "streamt1_propose_noise returned proposals that share a generator, so a candidate would depend on "
                "those made before it. Give each proposal a generator of its own; seeds may be equal."
            )
        return proposals

    def expand(self, chunk: Chunk, branches: Sequence[Branch], step: Step | None = None) -> list[Candidate]:
        """Decoded candidates of the branches, made by `step` (default: `denoise`).

        Of those that other processes made there are thumbnails only (location `elsewhere`).
        """
        made: dict[int, Candidate] = {}

        def work(indices: list[int]) -> list[Summary]:
            mine = [branches[index] for index in indices]
            for beam, batch in self._batches(mine):
                new = self._within_memory(chunk, self.offload.onload_beam(beam), batch, step or self.denoise)
                made.update({candidate.ordinal: self.offload.offload(candidate, beam) for candidate in new})
            shown = self.workers.size > 1 and self.run.recipe.parallel.thumbnails
            return [summarize(made[branch.ordinal], shown, self.batch_limit) for branch in mine]

        # A plain run is made by every process: the pipeline's own noise stream has to advance in each.
        workers = SingleProcess() if self.run.is_plain else self.workers
        summaries = workers.map(self.run, [branch.ordinal for branch in branches], work)
        limits = (self.batch_limit, *(summary.batch_limit for summary in summaries))
        self.batch_limit = min((limit for limit in limits if limit is not None), default=None)
        pairs = zip(branches, summaries, strict=True)
        return [made.get(branch.ordinal) or branch.placeholder(chunk, summary) for branch, summary in pairs]

    def denoise(self, chunk: Chunk, beam: Beam, batch: Sequence[Branch]) -> list[Candidate]:
        """Denoise and decode branches of one beam together."""
        self.set_status("generating", chunk, batch)
        made = self.decode(
            chunk, beam, batch, lambda: self.run.session.generate(beam.history, noise(batch), generators(batch))
        )
        self.run.cost.candidates += len(batch)
        return made

    def decode(
        self, chunk: Chunk, beam: Beam, batch: Sequence[Branch], denoise: Callable[[], Tensor]
    ) -> list[Candidate]:
        """Candidates of a batch from the latents ``[N, C, F, h, w]`` that `denoise` returns."""
        start, cost = perf_counter(), self.run.cost
        with self.run.spending("generate"):
            latents = denoise()
        with self.run.spending("decode"):
            decoded = self.run.session.decode(beam.history, latents)
        cost.latent_frames_decoded += int(latents.shape[0] * latents.shape[2])
        seconds = (perf_counter() - start) / len(batch)
        rows = zip(batch, torch.split(latents, 1), decoded, strict=True)
        return [
            branch.candidate(chunk, beam, latents=row, decoded=each, seconds=seconds, problem=problem_of(row, each))
            for branch, row, each in rows
        ]

    def set_status(self, activity: str, chunk: Chunk, batch: Sequence[Branch]) -> None:
        """Publish what is done to the candidates of a batch, for error messages of other processes."""
        names = ", ".join(node_id(chunk.index, branch.ordinal) for branch in batch)
        self.workers.set_status(f"{activity} candidate {names}")

    def _batches(self, branches: Sequence[Branch]) -> Iterator[tuple[Beam, Sequence[Branch]]]:
        """Branches beam by beam, in batches. The limit is read anew: it falls when memory runs out."""
        for _, group in groupby(branches, key=lambda branch: id(branch.beam)):
            left = list(group)
            while left:
                limit = self._limit()
                yield left[0].beam, left[:limit]
                left = left[limit:]

    def _limit(self) -> int:
        limits = (self.run.recipe.search.batch, self.run.session.capabilities.max_batch, self.batch_limit)
        return min(limit for limit in limits if limit is not None)

    def _within_memory(self, chunk: Chunk, beam: Beam, batch: Sequence[Branch], step: Step) -> list[Candidate]:
        """`step`, in halves where a batch is more than memory holds; later batches keep to that size."""
        before = [stream.get_state() for stream in generators(batch)]
        try:
            return step(chunk, beam, batch)
        except (RuntimeError, MemoryError, OSError) as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
        # Here and not above: the exception keeps the tensors of the failed attempt alive.
        for stream, state in zip(generators(batch), before, strict=True):
            stream.set_state(state)
        half = self.batch_limit = len(batch) // 2
        self.run.tree.note(
            f"Memory ran out with {len(batch)} candidates at once; from chunk {chunk.index} on {half} are."
        )
        parts = [batch[start : start + half] for start in range(0, len(batch), half)]
        return [candidate for part in parts for candidate in self._within_memory(chunk, beam, part, step)]


def problem_of(latents: Tensor, decoded: Decoded) -> str | None:
    """Why no video can be made of a candidate: a model in too narrow a dtype overflows, and its frames are NaN."""
    is_finite = bool(latents.isfinite().all() & decoded.frames.isfinite().all())
    return None if is_finite else "The frames are not finite (NaN or infinity)."


def noise(batch: Sequence[Branch]) -> Tensor:
    """The noise of a batch, candidates first."""
    return torch.cat([branch.proposal.noise for branch in batch])


def generators(batch: Sequence[Branch]) -> list[Generator]:
    """The noise streams of a batch, one per branch."""
    return [branch.proposal.generator for branch in batch]
