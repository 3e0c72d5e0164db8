"""Early pruning: a look at every candidate after its first denoising steps, and only the best share is finished.

What is decoded of an unfinished candidate is its preview: the frames of the clean chunk as the model guesses them so
far. Previews are judged by the first stage of rewards and by the run's own scoring, among themselves. Candidates left
behind stay in the tree, with the stage `EARLY`; those that go on are measured anew when they are finished.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.adapter import HasDraft
from streamt1_plugins.api.run import names
from streamt1_plugins.api.types import EARLY
from streamt1_plugins.config.schema import cannot_draft
from streamt1_plugins.evaluation import cascade
from streamt1_plugins.search import expand as branching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from streamt1_plugins.api.adapter import Draft
    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.evaluation.evaluator import Measurer
    from streamt1_plugins.plugins.run_hooks import RunHooks
    from streamt1_plugins.search.expand import Branch, Numbered
    from streamt1_plugins.search.offload import Parking


def check(run: Run) -> None:
    """Raise `RecipeError` where a search wants an early look and the session only makes whole candidates."""
    if run.recipe.early.steps and run.recipe.search.is_wide and not isinstance(run.session, HasDraft):
        raise cannot_draft(run.recipe.adapter.name)


def generate(run: Run, hooks: RunHooks, measurer: Measurer, parking: Parking, chunk: Chunk) -> list[Candidate]:
    """Every beam's candidates, denoised and decoded; with an early look only the best of them."""
    branches = branching.branch(run, hooks, chunk)
    session = _drafting(run, parking, branches) if measurer.rewards else None
    if session is None:
        return branching.generate(run, chunk, parking, branches)
    steps = _Steps(session, run.recipe.early.steps)
    drafts = branching.generate(run, chunk, parking, branches, step=steps.draft)
    looked = look(run, hooks, measurer, chunk, drafts)
    rows = [each.ordinal for each in looked if each.is_finished]
    finished = branching.generate(run, chunk, parking, branches, rows, steps.finish)
    whole = {each.ordinal: replace(each, seconds=each.seconds + looked[each.ordinal].seconds) for each in finished}
    return [whole.get(each.ordinal, each) for each in looked]


def look(run: Run, hooks: RunHooks, measurer: Measurer, chunk: Chunk, drafts: Sequence[Candidate]) -> list[Candidate]:
    """The drafts with readings of their previews, those to be left behind marked as `EARLY`.

    A preview that cannot be judged comes last, and makes nobody invalid: the frames it stands for are yet to come.
    """
    with run.cost.timing("reward"):
        seen = measurer.previews(run, chunk, drafts)
        judged = {each.ordinal for each in seen if each.is_valid and each.readings}
        scores = {c.ordinal: hooks.score(run, chunk, c) if c.ordinal in judged else math.nan for c in seen}
    if not any(map(math.isfinite, scores.values())):
        run.tree.note(f"Chunk {chunk.index}: no preview could be judged, so every candidate was finished.")
        return [*drafts]
    best = cascade.best(run, scores, run.recipe.early.keep)
    return [replace(each, stage=None if each.ordinal in best else EARLY, problem=None) for each in seen]


def _drafting(run: Run, parking: Parking, branches: Sequence[Branch]) -> HasDraft | None:
    """The session, where this chunk's candidates can be looked at early and some of them left behind."""
    early, session = run.recipe.early, run.session
    if not early.steps or not isinstance(session, HasDraft) or branching.are_plain(run, branches):
        return None
    if cascade.places(run.recipe, early.keep, len(branches)) == len(branches):
        return None
    if session.steps(parking.awake(branches[0][0]).history) <= early.steps:
        run.tree.note(f"Chunks of {early.steps} denoising steps or fewer had no early look (early.steps).")
        return None
    return session


@dataclass
class _Steps:
    """The two halves of `branching.denoise`, and the drafts between them by candidate, this process's own."""

    session: HasDraft
    count: int
    drafts: dict[int, Draft] = field(default_factory=dict)

    def draft(self, run: Run, chunk: Chunk, beam: Beam, batch: Sequence[Numbered]) -> list[Candidate]:
        """Candidates with the latents and frames of their previews; nobody goes on from these, so without a state."""
        ordinals = [ordinal for ordinal, _ in batch]
        run.team.doing("drafting " + names(run, ordinals))

        def denoised() -> Tensor:
            noise, generators = branching.noise(batch), branching.generators(batch)
            found = self.session.draft(beam.history, noise, generators, self.count)
            self.drafts.update(zip(ordinals, found, strict=True))
            return torch.cat([draft.latents for draft in found])

        made = branching.decoded(run, chunk, beam, batch, denoised)
        run.cost.candidates += len(batch)
        return [replace(each, decoded=replace(each.decoded, state=None)) for each in made]

    def finish(self, run: Run, chunk: Chunk, beam: Beam, batch: Sequence[Numbered]) -> list[Candidate]:
        """Whole candidates from their drafts."""
        ordinals = [ordinal for ordinal, _ in batch]
        run.team.doing("finishing " + names(run, ordinals))

        def denoised() -> Tensor:
            drafts = [self.drafts[ordinal] for ordinal in ordinals]
            return self.session.finish_drafts(beam.history, drafts, branching.generators(batch))

        return branching.decoded(run, chunk, beam, batch, denoised)
