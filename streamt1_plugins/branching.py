"""Branching the beams: noise proposals to decoded candidates, as many at once as the recipe and the memory allow."""

from __future__ import annotations

from itertools import groupby
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.contracts import Candidate
from streamt1_plugins.preview import Preview, Trace, names, trace
from streamt1_plugins.team import Alone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamt1_plugins.contracts import Beam, Chunk, Proposal, Run
    from streamt1_plugins.hooks import RunHooks
    from streamt1_plugins.parking import Parking
    from streamt1_plugins.team import Team

Branch = tuple["Beam", "Proposal"]
Numbered = tuple[int, "Proposal"]


def generate(run: Run, hooks: RunHooks, chunk: Chunk, parking: Parking) -> list[Candidate]:
    """Branch every beam: propose noise, denoise, decode. Candidates carry their tensors and their beam.

    In a team, each process makes its own candidates and knows the others' as `Preview`.
    """
    branches = [(beam, proposal) for beam in run.beams for proposal in _proposals(run, hooks, chunk, beam)]
    made: dict[int, Candidate] = {}

    def work(rows: list[int]) -> list[Trace]:
        for beam, batch in _batches(run, branches, rows):
            new = denoise_within_memory(run, chunk, parking.awake(beam), batch)
            made.update({candidate.ordinal: parking.waiting(candidate, beam) for candidate in new})
        return [trace(made[row], run.team.size > 1 and run.recipe.parallel.previews) for row in rows]

    traces = _team(run, branches).share(run, range(len(branches)), work)
    return [made.get(row) or _absent(chunk, row, branches[row], traces[row]) for row in range(len(branches))]


def _proposals(run: Run, hooks: RunHooks, chunk: Chunk, beam: Beam) -> Sequence[Proposal]:
    return hooks.propose_noise(run, chunk, beam, hooks.width(run, chunk, beam))


def _team(run: Run, branches: Sequence[Branch]) -> Team:
    """The run's team. Proposals from the pipeline's own stream are everybody's, for it has to advance everywhere."""
    return Alone() if any(proposal.generator is None for _, proposal in branches) else run.team


def _batches(run: Run, branches: Sequence[Branch], rows: Sequence[int]) -> Iterator[tuple[Beam, list[Numbered]]]:
    """The proposals of `rows`, beam by beam, in batches. The limit is read anew: it falls when memory runs out."""
    for _, group in groupby(rows, key=lambda row: id(branches[row][0])):
        left = [(row, branches[row][1]) for row in group]
        beam = branches[left[0][0]][0]
        while left:
            limit = _limit(run)
            yield beam, left[:limit]
            left = left[limit:]


def _limit(run: Run) -> int:
    limits = (run.recipe.search.batch, run.session.capabilities.max_batch, run.batch_limit)
    return min(limit for limit in limits if limit is not None)


def denoise_within_memory(run: Run, chunk: Chunk, beam: Beam, batch: Sequence[Numbered]) -> list[Candidate]:
    """`denoise`, in halves where a batch is more than the device's memory holds; the rest of the run keeps to that."""
    streams = [proposal.generator for _, proposal in batch if proposal.generator is not None]
    before = [stream.get_state() for stream in streams]
    try:
        return denoise(run, chunk, beam, batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # Here and not above: the exception keeps the tensors of the failed attempt alive.
    for stream, state in zip(streams, before, strict=True):
        stream.set_state(state)
    half = run.batch_limit = len(batch) // 2
    run.tree.note(f"Memory ran out with {len(batch)} candidates at once; from chunk {chunk.index} on {half} are.")
    parts = [batch[start : start + half] for start in range(0, len(batch), half)]
    return [candidate for part in parts for candidate in denoise_within_memory(run, chunk, beam, part)]


def denoise(run: Run, chunk: Chunk, beam: Beam, batch: Sequence[Numbered]) -> list[Candidate]:
    """Denoise and decode proposals of one beam together; each comes with the number of its candidate."""
    run.team.doing("generating " + names(run, [ordinal for ordinal, _ in batch]))
    start, history = perf_counter(), beam.history
    with run.cost.timing("generate"):
        noise = torch.cat([proposal.noise for _, proposal in batch])
        latents = run.session.generate(history, noise, [proposal.generator for _, proposal in batch])
    with run.cost.timing("decode"):
        decoded = run.session.decode(history, latents)
    run.cost.candidates += len(batch)
    run.cost.latent_frames_decoded += int(latents.shape[0] * latents.shape[2])
    seconds = (perf_counter() - start) / len(batch)
    return [
        Candidate(
            chunk=chunk.index,
            ordinal=ordinal,
            parent=beam.last.id if beam.last else None,
            seed=proposal.seed,
            propagated=proposal.propagated,
            seconds=seconds,
            noise=proposal.noise,
            latents=latents[i : i + 1],
            decoded=decoded[i],
            beam=beam,
        )
        for i, (ordinal, proposal) in enumerate(batch)
    ]


def _absent(chunk: Chunk, ordinal: int, branch: Branch, told: Trace) -> Candidate:
    """A candidate that another process made."""
    beam, proposal = branch
    return Candidate(
        chunk=chunk.index,
        ordinal=ordinal,
        parent=beam.last.id if beam.last else None,
        seed=proposal.seed,
        propagated=proposal.propagated,
        seconds=told.seconds,
        noise=proposal.noise,
        latents=proposal.noise[:, :, :0],
        decoded=Preview(told.frames.float() / 255),
        beam=beam,
    )
