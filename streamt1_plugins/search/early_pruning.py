"""Early pruning: every candidate is previewed after its first denoising steps, and only the best share is finished.

The preview of an unfinished candidate is what decoding the model's estimate of the clean chunk gives, with the decoder
whose frames the rewards score (`rewards.decode`). Previews are judged by the first stage of rewards and by the run's
own scoring, among themselves. Candidates that are pruned here stay in the tree, with the stage `EARLY`; the others are
evaluated anew when they are finished.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.adapter import HasDraft
from streamt1_plugins.api.types import EARLY
from streamt1_plugins.config.schema import cannot_draft
from streamt1_plugins.evaluation import cascade
from streamt1_plugins.search.expand import generators, noise
from streamt1_plugins.search.revise import FIRST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from streamt1_plugins.api.adapter import Draft, Session
    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.evaluation.evaluator import Evaluator
    from streamt1_plugins.search.expand import Branch, Expander
    from streamt1_plugins.search.previews import PreviewScoring
    from streamt1_plugins.search.revise import Round


def check(recipe: Recipe, session: Session) -> None:
    """Raise `RecipeError` where a recipe wants early pruning and the session only makes whole candidates."""
    if recipe.early.steps and recipe.search.is_wide and not isinstance(session, HasDraft):
        raise cannot_draft(recipe.adapter.name, session.capabilities.refusals.get("early_pruning", ""))


@dataclass
class EarlyPruning:
    """Makes the candidates of a chunk, and finishes only the best of them where the recipe wants early pruning."""

    expander: Expander
    evaluator: Evaluator
    previews: PreviewScoring

    def candidates(self, chunk: Chunk, wanted: Round = FIRST) -> list[Candidate]:
        """The candidates of a round, denoised and decoded; those pruned early with their previews."""
        branches = self.expander.branches(chunk, wanted)
        session = self._drafting(chunk, branches)
        if session is None:
            return self.expander.expand(chunk, branches)
        steps = _Steps(self.expander, session, self._first_steps(session, branches))
        previewed = self._prune(chunk, self.expander.expand(chunk, branches, steps.draft))
        chosen = [branch for branch, each in zip(branches, previewed, strict=True) if each.is_finished]
        finished = self.expander.expand(chunk, chosen, steps.finish)
        seconds = {each.ordinal: each.seconds for each in previewed}
        whole = {c.ordinal: replace(c, seconds=c.seconds + seconds[c.ordinal]) for c in finished}
        return [whole.get(each.ordinal, each) for each in previewed]

    def _prune(self, chunk: Chunk, drafts: Sequence[Candidate]) -> list[Candidate]:
        """The drafts with readings of their previews, those to be pruned marked as `EARLY`.

        A preview that cannot be judged comes last, and makes no candidate invalid: its final frames are yet to come.
        """
        run = self.expander.run
        with run.cost.timing("reward"):
            judged = self.evaluator.evaluate_previews(drafts, self.previews.reached)
            judged = [*map(_stateless, judged)]
            scores = {c.ordinal: self._score(chunk, c) for c in judged}
        if not any(map(math.isfinite, scores.values())):
            run.tree.note(f"Chunk {chunk.index}: no preview could be judged, so every candidate was finished.")
            return [*drafts]
        best = cascade.best(scores, run.recipe.early.keep_in(chunk.index), run.recipe.search)
        return [replace(each, stage=None if each.ordinal in best else EARLY, problem=None) for each in judged]

    def _score(self, chunk: Chunk, draft: Candidate) -> float:
        return self.expander.hooks.score(chunk, draft) if draft.is_valid and draft.readings else math.nan

    def _drafting(self, chunk: Chunk, branches: Sequence[Branch]) -> HasDraft | None:
        """The session, where this chunk's candidates can be previewed and some of them pruned."""
        run = self.expander.run
        early, session = run.recipe.early, run.session
        if not early.steps or not isinstance(session, HasDraft) or run.is_plain or not self.evaluator.has_rewards:
            return None
        if cascade.passing(early.keep_in(chunk.index), len(branches), run.recipe.search) == len(branches):
            return None
        first, steps = self._first_steps(session, branches), self._steps(session, branches)
        if steps <= first:
            run.tree.note(f"Chunks of {first} denoising steps or fewer were not pruned early (early.steps).")
            return None
        return session

    def _steps(self, session: HasDraft, branches: Sequence[Branch]) -> int:
        """Denoising steps of this chunk."""
        return session.steps(self.expander.offload.onload_beam(branches[0].beam).history)

    def _first_steps(self, session: HasDraft, branches: Sequence[Branch]) -> int:
        """Those of them before the preview."""
        return self.expander.run.recipe.early.steps_of(self._steps(session, branches))


@dataclass
class _Steps:
    """The two halves of `Expander.denoise`, the `first` one of so many steps, and the drafts between them by candidate,
    this process's own.
    """

    expander: Expander
    session: HasDraft
    first: int
    drafts: dict[int, Draft] = field(default_factory=dict)

    def draft(self, chunk: Chunk, beam: Beam, batch: Sequence[Branch]) -> list[Candidate]:
        """Candidates with the latents and frames of their previews; none is committed, so they keep no state."""
        self.expander.set_status("drafting", chunk, batch)

        def denoise() -> Tensor:
            found = self.session.draft(beam.history, noise(batch), generators(batch), self.first)
            self.drafts.update(zip([branch.ordinal for branch in batch], found, strict=True))
            return torch.cat([draft.latents for draft in found])

        made = self.expander.decode(chunk, beam, batch, denoise)
        self.expander.run.cost.candidates += len(batch)
        return [_stateless(each) for each in made]

    def finish(self, chunk: Chunk, beam: Beam, batch: Sequence[Branch]) -> list[Candidate]:
        """Whole candidates from their drafts."""
        self.expander.set_status("finishing", chunk, batch)

        def denoise() -> Tensor:
            drafts = [self.drafts[branch.ordinal] for branch in batch]
            return self.session.finish_drafts(beam.history, drafts, generators(batch))

        return self.expander.decode(chunk, beam, batch, denoise)


def _stateless(draft: Candidate) -> Candidate:
    """A draft without a decoder state: it is never committed."""
    return replace(draft, decoded=replace(draft.decoded, state=None))
