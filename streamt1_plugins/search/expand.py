"""Branching the beams: noise proposals to decoded candidates, as many at once as the recipe and the memory allow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.candidate import Candidate, Preview
from streamt1_plugins.api.run import names
from streamt1_plugins.api.workers import SingleProcess
from streamt1_plugins.search.thumbnails import Trace, trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Generator, Tensor

    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, Proposal
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.plugins.run_hooks import RunHooks
    from streamt1_plugins.search.offload import Parking

Branch = tuple["Beam", "Proposal"]
Numbered = tuple[int, "Proposal"]
Step = Callable[["Run", "Chunk", "Beam", "Sequence[Numbered]"], list[Candidate]]
"""Makes decoded candidates of a batch of one beam's proposals."""


def branch(run: Run, hooks: RunHooks, chunk: Chunk) -> list[Branch]:
    """The proposals of all beams; a place in the list is the number of a candidate."""
    return [(beam, proposal) for beam in run.beams for proposal in _proposals(run, hooks, chunk, beam)]


def generate(
    run: Run,
    chunk: Chunk,
    parking: Parking,
    branches: Sequence[Branch],
    rows: Sequence[int] | None = None,
    step: Step | None = None,
) -> list[Candidate]:
    """Denoise and decode the branches, or those at `rows` alone, or as another `step` does it than `denoise`.

    Candidates carry their tensors and their beam. In a team, each process makes its own candidates and knows the
    others' as `Preview`.
    """
    numbers = range(len(branches)) if rows is None else rows
    made: dict[int, Candidate] = {}

    def work(places: list[int]) -> list[Trace]:
        mine = [numbers[place] for place in places]
        for beam, batch in _batches(run, branches, mine):
            new = within_memory(run, chunk, parking.awake(beam), batch, step or denoise)
            made.update({candidate.ordinal: parking.waiting(candidate, beam) for candidate in new})
        return [trace(made[row], run.team.size > 1 and run.recipe.parallel.previews) for row in mine]

    traces = _team(run, branches).share(run, numbers, work)
    return [
        made.get(row) or _absent(chunk, row, branches[row], told) for row, told in zip(numbers, traces, strict=True)
    ]


def _proposals(run: Run, hooks: RunHooks, chunk: Chunk, beam: Beam) -> Sequence[Proposal]:
    return hooks.propose_noise(run, chunk, beam, hooks.width(run, chunk, beam))


def _team(run: Run, branches: Sequence[Branch]) -> Workers:
    """The run's team. Proposals from the pipeline's own stream are everybody's, for it has to advance everywhere."""
    return SingleProcess() if are_plain(run, branches) else run.team


def are_plain(run: Run, branches: Sequence[Branch]) -> bool:
    """Whether proposals come from the pipeline's own noise stream, which has to be drawn from in its order."""
    return any(proposal.generator is run.session.generator for _, proposal in branches)


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


def within_memory(run: Run, chunk: Chunk, beam: Beam, batch: Sequence[Numbered], step: Step) -> list[Candidate]:
    """`step`, in halves where a batch is more than the device's memory holds; the rest of the run keeps to that."""
    streams = generators(batch)
    before = [stream.get_state() for stream in streams]
    try:
        return step(run, chunk, beam, batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # Here and not above: the exception keeps the tensors of the failed attempt alive.
    for stream, state in zip(streams, before, strict=True):
        stream.set_state(state)
    half = run.batch_limit = len(batch) // 2
    run.tree.note(f"Memory ran out with {len(batch)} candidates at once; from chunk {chunk.index} on {half} are.")
    parts = [batch[start : start + half] for start in range(0, len(batch), half)]
    return [candidate for part in parts for candidate in within_memory(run, chunk, beam, part, step)]


def denoise(run: Run, chunk: Chunk, beam: Beam, batch: Sequence[Numbered]) -> list[Candidate]:
    """Denoise and decode proposals of one beam together; each comes with the number of its candidate."""
    run.team.doing("generating " + names(run, [ordinal for ordinal, _ in batch]))
    made = decoded(run, chunk, beam, batch, lambda: run.session.generate(beam.history, noise(batch), generators(batch)))
    run.cost.candidates += len(batch)
    return made


def noise(batch: Sequence[Numbered]) -> Tensor:
    """``[N, C, F, h, w]``."""
    return torch.cat([proposal.noise for _, proposal in batch])


def generators(batch: Sequence[Numbered]) -> list[Generator]:
    """One for each proposal."""
    return [proposal.generator for _, proposal in batch if proposal.generator is not None]


def decoded(
    run: Run, chunk: Chunk, beam: Beam, batch: Sequence[Numbered], denoised: Callable[[], Tensor]
) -> list[Candidate]:
    """Candidates of a batch from the latents ``[N, C, F, h, w]`` that `denoised` makes."""
    start = perf_counter()
    with run.cost.timing("generate"):
        latents = denoised()
    with run.cost.timing("decode"):
        frames = run.session.decode(beam.history, latents)
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
            decoded=frames[i],
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
