"""Expansion: every beam branches into candidates, from noise proposals to decoded frames.

Candidates are denoised in batches as large as the recipe, the adapter and the device's memory allow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from streamt1_plugins.api.adapter import Decoded
from streamt1_plugins.api.candidate import Candidate
from streamt1_plugins.api.noise import chunk_noise, initial, varied
from streamt1_plugins.api.types import Proposal, Variation, node_id
from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.errors import PluginError
from streamt1_plugins.search.out_of_memory import is_out_of_memory
from streamt1_plugins.search.previews import problem_of
from streamt1_plugins.search.revise import FIRST, Made, Round
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
    from streamt1_plugins.search.previews import PreviewScoring
    from streamt1_plugins.search.revise import Elder


class Branch(NamedTuple):
    """A candidate to be made: number `ordinal` of its chunk, from a proposal for a beam, in a `round`.

    `varies`: how the proposal's noise was made from another candidate's.
    """

    ordinal: int
    beam: Beam
    proposal: Proposal
    round: int = 0
    varies: Variation | None = None

    def candidate(self, chunk: Chunk, beam: Beam, **made: Any) -> Candidate:
        """The candidate, once its tensors are `made`; `beam` is the form of its parent that it keeps."""
        return Candidate(
            chunk=chunk.index,
            ordinal=self.ordinal,
            parent=beam.last.id if beam.last else None,
            seed=self.proposal.seed,
            propagated=self.proposal.propagated,
            round=self.round,
            varies=self.varies,
            noise=self.proposal.noise,
            beam=beam,
            **made,
        )

    def placeholder(
        self, chunk: Chunk, summary: Summary, previewed: bool = False, is_preview: bool = False
    ) -> Candidate:
        """The candidate where another process has its tensors. `is_preview`: its thumbnail is one of a preview."""
        decoded, nothing = Decoded(summary.frames.float() / 255), initial(self.proposal.noise)[:, :, :0]
        return self.candidate(
            chunk,
            self.beam,
            latents=nothing,
            decoded=decoded,
            seconds=summary.seconds,
            location="elsewhere",
            previewed=previewed,
            preview=decoded.frames if is_preview else None,
            pooled=summary.features,
        )


Step = Callable[["Chunk", "Beam", "Sequence[Branch]"], list[Candidate]]
"""Makes decoded, or previewed, candidates of a batch of one beam's branches. The beam is the one on the device."""


@dataclass
class Expander:
    """Makes the candidates of a run. `batch_limit`: how many at once fit into memory, None until it has run out.

    `previews`: None where candidates are decoded in full, whatever the recipe has rewards score.
    """

    run: Run
    hooks: RunHooks
    offload: Offload
    workers: Workers
    previews: PreviewScoring | None = None
    batch_limit: int | None = None

    def branches(self, chunk: Chunk, wanted: Round = FIRST) -> list[Branch]:
        """The branches of all beams in a round, numbered after those that the chunk has."""
        made, beams = Made.before(self.run.tree, chunk.index), wanted.branching(self.run.beams)
        widths = self._widths(chunk, beams, wanted, made)
        branches: list[Branch] = []
        for beam, width in zip(beams, widths, strict=True):
            for place, proposal in enumerate(self.propose(chunk, beam, width, made.ordinal) if width else ()):
                ordinal, elder = made.ordinal + len(branches), wanted.elder(beam, place)
                new = self.vary(proposal, beam, elder) if elder else proposal
                branches.append(Branch(ordinal, beam, new, made.round, elder.how if elder else None))
        return branches

    def _widths(self, chunk: Chunk, beams: Sequence[Beam], wanted: Round, made: Made) -> Sequence[int]:
        """How many candidates each of the beams branches into."""
        if self.run.is_plain:
            return [1] * len(beams)
        if wanted.count is not None:
            return [wanted.count] * len(beams)
        # Before the first candidates, none is no width. The first process decides for all: a width policy may follow a
        # clock.
        least = 0 if self.run.tree.chunk(chunk.index) else 1
        return self.workers.all_gather([self.hooks.width(chunk, beam, least) for beam in beams])[0]

    def vary(self, proposal: Proposal, beam: Beam, elder: Elder) -> Proposal:
        """The proposal with the noise of another candidate, varied by fresh noise of the proposal's seed."""
        generator = torch.Generator(proposal.generator.device).manual_seed(proposal.seed)
        fresh = chunk_noise(self.run.session, beam.history, generator)
        noise = varied(elder.noise, fresh, elder.how.strength, elder.how.draws)
        return replace(proposal, noise=noise, propagated=elder.propagated)

    def propose(self, chunk: Chunk, beam: Beam, width: int, skip: int = 0) -> Sequence[Proposal]:
        """The noise proposals of one beam, after the first `skip`, which earlier rounds may have used.

        A plain run takes the pipeline's own noise stream, whatever the noise policy: off means off.
        """
        session = self.run.session
        if self.run.is_plain:
            own = session.generator
            return [Proposal(self.run.seed, chunk_noise(session, beam.history, own), own)]
        proposals = self.hooks.propose_noise(chunk, beam, skip + width)[skip:]
        if not proposals:
            more = f" beyond the {skip} that the chunk has used, of {skip + width} it was called for" if skip else ""
            raise PluginError(f"streamt1_propose_noise returned no proposals{more}; a beam needs at least one.")
        if len({id(each.generator) for each in proposals}) < len(proposals):
            raise PluginError(
                "streamt1_propose_noise returned proposals that share a generator, so a candidate would depend on "
                "those made before it. Give each proposal a generator of its own; seeds may be equal."
            )
        return proposals

    def expand(self, chunk: Chunk, branches: Sequence[Branch], step: Step | None = None) -> list[Candidate]:
        """Decoded, or previewed, candidates of the branches, made by `step` (default: `denoise`).

        Of those that other processes made there are thumbnails only (location `elsewhere`).
        """
        made: dict[int, Candidate] = {}

        def work(indices: list[int]) -> list[Summary]:
            mine = [branches[index] for index in indices]
            for beam, batch in self._batches(mine):
                new = self._within_memory(chunk, self.offload.onload_beam(beam), batch, step or self.denoise)
                made.update({candidate.ordinal: self.offload.offload(candidate, beam) for candidate in new})
            shared = self.workers.size > 1
            shown = shared and self.run.recipe.parallel.thumbnails
            return [summarize(made[branch.ordinal], shown, self.batch_limit, shared) for branch in mine]

        # A plain run is made by every process: the pipeline's own noise stream has to advance in each.
        workers = SingleProcess() if self.run.is_plain else self.workers
        summaries = workers.map(self.run, [branch.ordinal for branch in branches], work)
        limits = (self.batch_limit, *(summary.batch_limit for summary in summaries))
        self.batch_limit = min((limit for limit in limits if limit is not None), default=None)
        pairs = zip(branches, summaries, strict=True)
        previews = self.previews
        kind = (False, False) if previews is None else (previews.is_on, previews.stand_in == "preview")
        return [made.get(branch.ordinal) or branch.placeholder(chunk, summary, *kind) for branch, summary in pairs]

    def denoise(self, chunk: Chunk, beam: Beam, batch: Sequence[Branch]) -> list[Candidate]:
        """Denoise branches of one beam together, and decode or preview them."""
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
        start = perf_counter()
        with self.run.spending("generate"):
            latents = denoise()
        shown = self._shown(beam, latents)
        seconds = (perf_counter() - start) / len(batch)
        rows = zip(batch, torch.split(latents, 1), shown, strict=True)
        return [
            branch.candidate(
                chunk, beam, latents=row, seconds=seconds, problem=problem_of(row, each["decoded"]), **each
            )
            for branch, row, each in rows
        ]

    def _shown(self, beam: Beam, latents: Tensor) -> list[dict[str, Any]]:
        """The fields of candidates that hold their frames: decoded in full, those of the preview decoder, or none."""
        cost, count = self.run.cost, int(latents.shape[0] * latents.shape[2])
        if self.previews is None or self.previews.stand_in is None:
            with self.run.spending("decode"):
                decoded = self.run.session.decode(beam.history, latents)
            cost.latent_frames_decoded += count
            return [{"decoded": each} for each in decoded]
        if self.previews.stand_in == "nothing":
            return [{"decoded": Decoded(latents.new_empty(0, 3, 1, 1)), "location": "undecoded"}] * len(latents)
        previews = self.previews.made(beam.previews, latents)
        cost.latent_frames_previewed += count
        shared = {"previewed": self.previews.is_on, "location": "previewed"}
        return [{"decoded": Decoded(each.frames), "preview": each.frames, **shared} for each in previews]

    def set_status(self, activity: str, chunk: Chunk, batch: Sequence[Branch]) -> None:
        """Publish what is done to the candidates of a batch, for error messages of other processes."""
        names = ", ".join(node_id(chunk.index, branch.ordinal) for branch in batch)
        self.workers.set_status(f"{activity} candidate {names}")

    def _batches(self, branches: Sequence[Branch]) -> Iterator[tuple[Beam, Sequence[Branch]]]:
        """Branches beam by beam, in batches. The limit is read anew: it falls when memory runs out."""
        for _, group in groupby(branches, key=lambda branch: id(branch.beam)):
            left = list(group)
            while left:
                limit = self.limit()
                yield left[0].beam, left[:limit]
                left = left[limit:]

    def limit(self) -> int:
        """The most candidates that the model may be given at once."""
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


def noise(batch: Sequence[Branch]) -> Tensor:
    """The noise of a batch, candidates first."""
    return torch.cat([branch.proposal.noise for branch in batch])


def generators(batch: Sequence[Branch]) -> list[Generator]:
    """The noise streams of a batch, one per branch."""
    return [branch.proposal.generator for branch in batch]
