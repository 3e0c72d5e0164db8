"""The main path: chunk by chunk, branch the beams, measure the candidates, keep the best, commit the survivors."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.contracts import Beam, Candidate
from streamt1_plugins.errors import PluginError
from streamt1_plugins.parking import Parking

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from streamt1_plugins.contracts import Chunk, Fate, MemoryRoute, Proposal, Run
    from streamt1_plugins.hooks import RunHooks
    from streamt1_plugins.measure import Measurer


def search(run: Run, hooks: RunHooks, measurer: Measurer) -> Generator[Chunk, None, None]:
    """Run the search, yielding each chunk after its survivors are committed to ``run.beams``, best first.

    A run that has beams already goes on from them; ``run.stop`` ends it early.
    """
    parking = Parking(run)
    run.beams = tuple(map(parking.resting, run.beams or (Beam(run.session.root()),)))
    hooks.run_started(run)
    for chunk in run.chunks():
        run.chunk = chunk
        candidates = generate(run, hooks, chunk, parking)
        candidates = measure(run, hooks, measurer, candidates)
        candidates = [judge(run, hooks, chunk, candidate) for candidate in candidates]
        kept, pruned = settle(run, candidates, select(run, hooks, chunk, candidates))
        del candidates  # the states of those pruned are not needed while the others are committed
        run.beams = tuple(parking.resting(commit(run, parking.selected(candidate))) for candidate in kept)
        hooks.chunk_selected(run, chunk, kept, pruned)
        del kept, pruned  # nor their tensors while the next chunk is generated
        yield chunk
        if run.stop:
            break
    choose(run, measurer)


def generate(run: Run, hooks: RunHooks, chunk: Chunk, parking: Parking) -> list[Candidate]:
    """Branch every beam: propose noise, denoise, decode. Candidates carry their tensors and their beam."""
    candidates: list[Candidate] = []
    limit = min(run.recipe.search.batch, run.session.capabilities.max_batch or run.recipe.search.batch)
    for beam in run.beams:
        proposals, awake = list(hooks.propose_noise(run, chunk, beam)), parking.awake(beam)
        for start in range(0, len(proposals), limit):
            made = denoise(run, chunk, awake, proposals[start : start + limit], len(candidates))
            candidates += [parking.waiting(candidate, beam) for candidate in made]
    return candidates


def denoise(run: Run, chunk: Chunk, beam: Beam, proposals: Sequence[Proposal], ordinal: int) -> list[Candidate]:
    """Denoise and decode proposals of one beam together; the first one becomes candidate number `ordinal`."""
    start, history = perf_counter(), beam.history
    with run.cost.timing("generate"):
        noise = torch.cat([proposal.noise for proposal in proposals])
        latents = run.session.generate(history, noise, [proposal.generator for proposal in proposals])
    with run.cost.timing("decode"):
        decoded = run.session.decode(history, latents)
    run.cost.candidates += len(proposals)
    run.cost.latent_frames_decoded += int(latents.shape[0] * latents.shape[2])
    seconds = (perf_counter() - start) / len(proposals)
    return [
        Candidate(
            chunk=chunk.index,
            ordinal=ordinal + i,
            parent=beam.last.id if beam.last else None,
            seed=proposal.seed,
            propagated=proposal.propagated,
            seconds=seconds,
            noise=proposal.noise,
            latents=latents[i : i + 1],
            decoded=decoded[i],
            beam=beam,
        )
        for i, proposal in enumerate(proposals)
    ]


def measure(run: Run, hooks: RunHooks, measurer: Measurer, candidates: list[Candidate]) -> list[Candidate]:
    """Let the rewards look at the candidates, where there is anything to decide."""
    chunk = run.chunk
    if not measurer.rewards or chunk is None:
        return candidates
    with run.cost.timing("reward"):
        return measurer.measure(run, chunk, candidates, partial(hooks.score, run, chunk))


def judge(run: Run, hooks: RunHooks, chunk: Chunk, candidate: Candidate) -> Candidate:
    """Score a candidate that can survive and decide its route; a score that is not finite makes it invalid."""
    if candidate.is_eligible:
        candidate = replace(candidate, score=hooks.score(run, chunk, candidate))
        if not math.isfinite(candidate.score):
            candidate = replace(candidate, problem=f"The score is not finite ({candidate.score}).")
        elif run.session.capabilities.routes and candidate.beam.path:
            candidate = replace(candidate, route=_route(run, hooks, chunk, candidate))
    run.tree.add(candidate.node())
    hooks.candidate_scored(run, chunk, candidate)
    return candidate


def _route(run: Run, hooks: RunHooks, chunk: Chunk, candidate: Candidate) -> MemoryRoute:
    route = hooks.route_memory(run, chunk, candidate)
    if route not in run.session.capabilities.routes:
        known = ", ".join(sorted(run.session.capabilities.routes))
        raise PluginError(f"streamt1_route_memory answered {route!r}; this pipeline's memory knows {known}.")
    return route


def select(run: Run, hooks: RunHooks, chunk: Chunk, candidates: list[Candidate]) -> list[Candidate]:
    """The survivors, best first. When every candidate is invalid the first one goes on and the tree says so."""
    valid = [candidate for candidate in candidates if candidate.is_eligible]
    if not valid:
        run.tree.note(f"Chunk {chunk.index}: no valid candidate ({candidates[0].problem}); the first one was kept.")
        return candidates[:1]
    kept = list(hooks.select(run, chunk, valid))
    if not kept:
        raise PluginError("streamt1_select kept nobody; at least one candidate must survive a chunk.")
    return kept


def commit(run: Run, candidate: Candidate) -> Beam:
    """Advance a survivor: the clean pass writes its context, stored with its route."""
    beam, route = candidate.beam, candidate.route or "discard"
    with run.cost.timing("commit"):
        history = run.session.commit(beam.history, candidate.latents, candidate.decoded, route)
    run.cost.forwards = run.session.forwards
    return Beam(history, (*beam.path, candidate.node()), candidate.noise, candidate.rank or 0)


def settle(run: Run, candidates: list[Candidate], kept: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Write every candidate's fate into the tree; returns (kept, pruned), survivors best first."""
    ranks = {candidate.ordinal: rank for rank, candidate in enumerate(kept)}
    settled = [_with_fate(candidate, ranks.get(candidate.ordinal)) for candidate in candidates]
    for candidate in settled:
        run.tree.add(candidate.node())
    survivors = sorted((c for c in settled if c.rank is not None), key=lambda c: ranks[c.ordinal])
    return survivors, [_released(c) for c in settled if c.rank is None]


def _released(candidate: Candidate) -> Candidate:
    """Nobody continues a pruned candidate, so its decoder state can go."""
    return replace(candidate, decoded=replace(candidate.decoded, state=None))


def _with_fate(candidate: Candidate, rank: int | None) -> Candidate:
    fate: Fate = "kept" if rank is not None else "pruned" if candidate.is_valid else "invalid"
    return replace(candidate, fate=fate, rank=rank)


def choose(run: Run, measurer: Measurer) -> None:
    """The winner among the last survivors: best whole video by the long rewards (first on ties), or the best rank."""
    beams = list(run.beams)
    whole = run.recipe.search.final == "whole_video" and any(horizon == "long" for horizon, _ in measurer.rewards)
    if whole and len(beams) > 1:
        with run.cost.timing("reward"):
            scores = measurer.whole_videos(run)
        run.tree.final = {beam.path[-1].id: score for beam, score in zip(beams, scores, strict=True)}
        finite = [score if math.isfinite(score) else -math.inf for score in scores]
        beams.insert(0, beams.pop(finite.index(max(finite))))
    run.beams = tuple(beams)
    run.tree.winner = tuple(candidate.id for candidate in beams[0].path)
