"""The search: chunk by chunk, expand the beams, evaluate the candidates, keep the best, commit the survivors."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from streamt1_plugins.api.candidate import Beam, Candidate
from streamt1_plugins.errors import PluginError
from streamt1_plugins.policies.revision import NEVER
from streamt1_plugins.process.stepwise import stepwise
from streamt1_plugins.process.threads import limited
from streamt1_plugins.search.denoiser import CandidateDenoiser
from streamt1_plugins.search.early_pruning import EarlyPruning
from streamt1_plugins.search.expand import Expander
from streamt1_plugins.search.offload import Offload, released
from streamt1_plugins.search.out_of_memory import explained
from streamt1_plugins.search.previews import PreviewScoring, decodes_survivors_alone
from streamt1_plugins.search.previews import settle as settle_previews
from streamt1_plugins.search.revise import FIRST, Revising, Round

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, Fate, MemoryRoute, Revision, RevisionLimits
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.evaluation.evaluator import Evaluator
    from streamt1_plugins.plugins.run_hooks import RunHooks

    Select = Callable[[list[Candidate]], list[Candidate]]

log = logging.getLogger("streamt1")

CLOSE = 1e-5  # scores; what batching changes in float32 is a tenth of it


@dataclass
class Search:
    """The search of one video, and everything it works with.

    `chunks` makes all of it; a take calls the steps that `chunks` consists of. `limits`: the most that the revision
    policy answers. `reach`: how many chunks a person may go back, None for any number. `is_watched`: a person looks at
    the candidates.
    """

    run: Run
    hooks: RunHooks
    evaluator: Evaluator
    workers: Workers
    limits: RevisionLimits = NEVER
    reach: int | None = 0
    is_watched: bool = False

    def __post_init__(self) -> None:
        self.evaluator = replace(self.evaluator, denoiser_of=self._denoiser)

    @cached_property
    def offload(self) -> Offload:
        return Offload(self.run)

    @cached_property
    def previews(self) -> PreviewScoring:
        return PreviewScoring(self.run, self.offload, self.workers)

    @cached_property
    def expander(self) -> Expander:
        return Expander(self.run, self.hooks, self.offload, self.workers, self.previews)

    @cached_property
    def revising(self) -> Revising:
        return Revising(self.run, self.hooks, self.workers, self.limits, self.reach)

    @cached_property
    def early(self) -> EarlyPruning:
        return EarlyPruning(self.expander, self.evaluator, self.previews)

    def chunks(self) -> Generator[Chunk, None, None]:
        """Search, yielding each chunk after its survivors are committed to ``run.beams``, best first.

        A chunk may come again: a revision policy may go back to it. A run that has beams already continues from them;
        ``run.stop`` ends it early. Raises `OutOfMemoryError` where not even one candidate at a time fits.
        """
        with explained(self.run):
            yield from stepwise(self._chunks(), partial(limited, self.run.threads))

    def _chunks(self) -> Generator[Chunk, None, None]:
        run = self.run
        self.start()
        while (chunk := next(run.chunks(), None)) is not None:
            # Nested, so that the states of pruned candidates are free while the survivors are committed.
            survived = self._survived(chunk, self.revised(chunk, self.judged(chunk)))
            if survived is None:
                continue
            self.advance(chunk, *survived)
            del survived  # nor are their tensors needed while the next chunk is generated
            yield chunk
            run.stop = any(self.workers.all_gather(run.stop))
            if run.stop:
                break
        self.choose()

    def start(self) -> None:
        """Bring the beams that the run begins with to where candidates can continue them."""
        run = self.run
        settle_previews(run, self.workers)
        if decodes_survivors_alone(run.recipe, self.evaluator.has_rewards):
            self.previews.settle_unscored(self.is_watched or self.hooks.reads_frames)
        begun = map(self.previews.begun, run.beams or (self._root(),))
        run.beams = tuple(map(self.offload.offload_beam, begun))
        self.hooks.run_started()

    def judged(self, chunk: Chunk, wanted: Round = FIRST) -> list[Candidate]:
        """The candidates of a round with readings, scores and routes."""
        self.run.chunk = chunk
        return self._judged(chunk, self.early.candidates(chunk, wanted))

    def revised(self, chunk: Chunk, pool: list[Candidate]) -> list[Candidate] | None:
        """All candidates of a chunk, with those of every round that the revision policy wants; None where the search
        has gone back instead.
        """
        while (revision := self.revising.asked(chunk, pool)) is not None:
            if revision.back_to is not None:
                self.go_back(chunk, revision, pool)
                return None
            if (joined := self.another(chunk, revision, pool)) is None:
                break
            pool = joined
        return pool

    def another(self, chunk: Chunk, revision: Revision, pool: list[Candidate]) -> list[Candidate] | None:
        """The candidates of a chunk with another round of them, None where the width policy wants no more."""
        self.hooks.revised(chunk, revision, pool)
        made = self.early.candidates(chunk, Round.of(revision, pool))
        return self._joined(chunk, pool, self._judged(chunk, made)) if made else None

    def go_back(self, chunk: Chunk, revision: Revision, pool: list[Candidate]) -> None:
        """Return to the beams before ``revision.back_to``; the candidates that wait are abandoned too."""
        self.revising.go_back(chunk, revision, chunk.index if revision.back_to is None else revision.back_to)
        self.hooks.revised(chunk, revision, pool)

    def _survived(self, chunk: Chunk, pool: list[Candidate] | None) -> tuple[list[Candidate], list[Candidate]] | None:
        return None if pool is None else self.survivors(chunk, pool)

    def advance(self, chunk: Chunk, kept: list[Candidate], pruned: list[Candidate]) -> None:
        """Commit the survivors to ``run.beams``, best first."""
        run, before = self.run, self.run.beams
        kept = self.workers.gather_survivors(run, kept)
        run.beams = tuple(self.offload.offload_beam(self.commit(self.offload.onload(each))) for each in kept)
        self.revising.remember(before)
        del before
        self.hooks.chunk_selected(chunk, kept, pruned)

    def commit(self, candidate: Candidate) -> Beam:
        """The beam that a survivor becomes: the clean pass writes its context, stored with its route."""
        beam, session = candidate.beam, self.run.session
        with self.run.spending("commit"):
            history = session.commit(beam.history, candidate.latents, candidate.decoded, candidate.route or "discard")
        path, previews = (*beam.path, candidate.node()), self.previews.after(candidate)
        return Beam(history, path, candidate.noise, candidate.rank or 0, previews)

    def _denoiser(self, candidates: Sequence[Candidate]) -> CandidateDenoiser:
        return CandidateDenoiser(self.run, self.offload, self.expander.limit, tuple(candidates))

    def _root(self) -> Beam:
        with self.run.spending("commit"):  # of the chunks that the call continues
            return Beam(self.run.session.root())

    def _joined(self, chunk: Chunk, pool: Sequence[Candidate], new: Sequence[Candidate]) -> list[Candidate]:
        """The candidates of all rounds, calibrated among all of them and scored anew."""
        both = {each.ordinal: each for each in (*pool, *new)}
        found = [self._scored(chunk, each) for each in self.evaluator.calibrated_together(list(both.values()))]
        for each in found:
            if each != both[each.ordinal]:
                self.hooks.candidate_scored(chunk, each)
        return found

    def _judged(self, chunk: Chunk, candidates: list[Candidate]) -> list[Candidate]:
        """The candidates with readings, scores and routes."""
        if self.evaluator.has_rewards:
            with self.run.cost.timing("reward"):
                score = partial(self.hooks.score, chunk)
                candidates = self.evaluator.evaluate(candidates, score, self.previews.reached)
        return [self._judge(chunk, candidate) for candidate in candidates]

    def _judge(self, chunk: Chunk, candidate: Candidate) -> Candidate:
        """The candidate with its score and route, which are reported."""
        candidate = self._scored(chunk, candidate)
        self.hooks.candidate_scored(chunk, candidate)
        return candidate

    def _scored(self, chunk: Chunk, candidate: Candidate) -> Candidate:
        """Score a candidate that can survive and decide its route; a score that is not finite makes it invalid."""
        if candidate.is_eligible:
            candidate = replace(candidate, score=self.hooks.score(chunk, candidate))
            if not math.isfinite(candidate.score):
                candidate = replace(candidate, problem=f"The score is not finite ({candidate.score}).")
            elif self.run.session.capabilities.routes and candidate.beam.path:
                candidate = replace(candidate, route=self._route(chunk, candidate))
        return candidate

    def _route(self, chunk: Chunk, candidate: Candidate) -> MemoryRoute:
        route, known = self.hooks.route_memory(chunk, candidate), self.run.session.capabilities.routes
        if route not in known:
            raise PluginError(
                f"streamt1_route_memory returned {route!r}; this pipeline's memory has the routes "
                f"{', '.join(sorted(known))}."
            )
        return route

    def survivors(
        self, chunk: Chunk, candidates: list[Candidate], select: Select | None = None
    ) -> tuple[list[Candidate], list[Candidate]]:
        """(kept, pruned), survivors best first; all of them enter the tree.

        select: chooses the survivors in place of the selection policy.
        """
        judged = {each.ordinal: each for each in candidates}
        candidates, selected = self.previews.survivors(candidates, select or partial(self.selected, chunk))
        for each in candidates:
            if each.problem != judged[each.ordinal].problem:  # found when it was decoded in full
                self.hooks.candidate_scored(chunk, each)
        settled = settle(candidates, selected)
        for candidate in settled:
            self.run.tree.add(candidate.node())
        kept = sorted((each for each in settled if each.rank is not None), key=lambda each: each.rank or 0)
        return kept, [released(each) for each in settled if each.rank is None]

    def selected(self, chunk: Chunk, candidates: list[Candidate]) -> list[Candidate]:
        """The survivors, best first. When every candidate is invalid, the first one is kept and the tree notes it."""
        valid = [candidate for candidate in candidates if candidate.is_eligible]
        if not valid:
            return [self._fallback(chunk, candidates)]
        kept = list(self.hooks.select(chunk, valid))
        known = {candidate.ordinal for candidate in valid}
        chosen = [candidate.ordinal for candidate in kept]
        if not kept or len(set(chosen)) < len(chosen) or not known.issuperset(chosen):
            names = ", ".join(candidate.id for candidate in kept) or "none"
            raise PluginError(
                f"streamt1_select returned {names}; at least one of the candidates it was given has to survive a "
                "chunk, each of them once."
            )
        if self.run.recipe.search.batch > 1 and is_close_call(valid, kept):
            self.run.tree.note(
                f"Chunk {chunk.index}: a close call, which another size or sharing of batches may decide otherwise."
            )
        return kept

    def _fallback(self, chunk: Chunk, candidates: Sequence[Candidate]) -> Candidate:
        """The candidate to keep where none can survive.

        Where a stage of rewards failed on all candidates that reached it, one that the stage before pruned is still
        good, if it is finished.
        """
        problem = next((candidate.problem for candidate in candidates if candidate.problem), None)
        note = f"Chunk {chunk.index}: no valid candidate ({problem}); the first one was kept."
        self.run.tree.note(note)
        if self.workers.rank == 0:
            log.warning("%s", note)
        finished = [candidate for candidate in candidates if candidate.is_finished]
        return next((candidate for candidate in finished if candidate.is_valid), finished[0])

    def choose(self) -> None:
        """Put the winner first: the best whole video by the long rewards (first on ties), or the best rank."""
        run, beams = self.run, list(self.run.beams)
        has_long = any(bound.horizon == "long" for bound in self.evaluator.pool.bound)
        if run.recipe.search.final == "whole_video" and has_long and len(beams) > 1:
            with run.cost.timing("reward"):
                scores = self.evaluator.evaluate_whole_videos()
            run.tree.final = {beam.path[-1].id: score for beam, score in zip(beams, scores, strict=True)}
            finite = [score if math.isfinite(score) else -math.inf for score in scores]
            beams.insert(0, beams.pop(finite.index(max(finite))))
        run.beams = tuple(beams)
        run.tree.winner = tuple(node.id for node in beams[0].path)


def is_close_call(valid: Sequence[Candidate], kept: Sequence[Candidate]) -> bool:
    """Whether the last bits of scores, which batches change, may have decided which candidates survive."""
    survivors = {candidate.ordinal for candidate in kept}
    pruned = [each.score for each in valid if each.is_scored and each.ordinal not in survivors]
    # Any pair, not only the two at the cut: a selection policy may keep a candidate below one it prunes.
    return any(abs(candidate.score - score) <= CLOSE for candidate in kept for score in pruned)


def settle(candidates: Sequence[Candidate], kept: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with their fate and, for survivors, their rank among the `kept`."""
    ranks = {candidate.ordinal: rank for rank, candidate in enumerate(kept)}

    def fate(candidate: Candidate) -> Fate:
        return "kept" if candidate.ordinal in ranks else "pruned" if candidate.is_valid else "invalid"

    return [replace(each, fate=fate(each), rank=ranks.get(each.ordinal)) for each in candidates]
