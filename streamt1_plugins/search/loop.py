"""The main path: chunk by chunk, branch the beams, measure the candidates, keep the best, commit the survivors."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from streamt1_plugins.api.candidate import Beam, Candidate, is_here
from streamt1_plugins.errors import PluginError
from streamt1_plugins.search import early_pruning as early
from streamt1_plugins.search.offload import Parking

if TYPE_CHECKING:
    from collections.abc import Generator

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, Fate, MemoryRoute
    from streamt1_plugins.evaluation.evaluator import Measurer
    from streamt1_plugins.plugins.run_hooks import RunHooks

CLOSE = 1e-5  # scores; what batching changes in float32 is a tenth of it


def search(run: Run, hooks: RunHooks, measurer: Measurer) -> Generator[Chunk, None, None]:
    """Run the search, yielding each chunk after its survivors are committed to ``run.beams``, best first.

    A run that has beams already goes on from them; ``run.stop`` ends it early.
    """
    parking = Parking(run)
    run.beams = tuple(map(parking.resting, run.beams or (Beam(run.session.root()),)))
    hooks.run_started(run)
    for chunk in run.chunks():
        run.chunk = chunk
        candidates = early.generate(run, hooks, measurer, parking, chunk)
        candidates = measure(run, hooks, measurer, candidates)
        candidates = [judge(run, hooks, chunk, candidate) for candidate in candidates]
        kept, pruned = settle(run, candidates, select(run, hooks, chunk, candidates))
        del candidates  # the states of those pruned are not needed while the others are committed
        kept = run.team.deliver(run, kept)
        run.beams = tuple(parking.resting(commit(run, decoded(run, parking.selected(each)))) for each in kept)
        hooks.chunk_selected(run, chunk, kept, pruned)
        del kept, pruned  # nor their tensors while the next chunk is generated
        yield chunk
        run.stop = any(run.team.exchange(run.stop))
        if run.stop:
            break
    choose(run, measurer)


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
        why = next((candidate.problem for candidate in candidates if candidate.problem), None)
        run.tree.note(f"Chunk {chunk.index}: no valid candidate ({why}); the first one was kept.")
        # Where a stage of rewards failed on all it was asked about, one that the stage before put behind is still good,
        # if only it is finished.
        finished = [candidate for candidate in candidates if candidate.is_finished]
        return [next((candidate for candidate in finished if candidate.is_valid), finished[0])]
    kept = list(hooks.select(run, chunk, valid))
    if not kept:
        raise PluginError("streamt1_select kept nobody; at least one candidate must survive a chunk.")
    if run.recipe.search.batch > 1:
        _note_close_call(run, chunk, valid, kept)
    return kept


def _note_close_call(run: Run, chunk: Chunk, valid: list[Candidate], kept: list[Candidate]) -> None:
    """Batches change last bits, so say where those may have decided who survives."""
    survivors = {candidate.ordinal for candidate in kept}
    pruned = [candidate.score for candidate in valid if candidate.ordinal not in survivors]
    # Any pair, not only the two at the cut: a selection policy may keep a candidate below one it prunes.
    if any(abs(candidate.score - score) <= CLOSE for candidate in kept for score in pruned):
        run.tree.note(
            f"Chunk {chunk.index}: a close call, which another size or sharing of batches may decide otherwise."
        )


def decoded(run: Run, candidate: Candidate) -> Candidate:
    """A survivor with frames and decoder state; those another process made are decoded here again, to the same bits."""
    if is_here(candidate):
        return candidate
    if run.recipe.search.offload == "recompute":  # one process would do it too, so it is part of the search's cost
        run.cost.latent_frames_decoded += int(candidate.latents.shape[2])
    with run.cost.timing("decode"):
        return replace(candidate, decoded=run.session.decode(candidate.beam.history, candidate.latents)[0])


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
