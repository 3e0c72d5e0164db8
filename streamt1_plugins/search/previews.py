"""Preview scoring: rewards score the frames of a cheap decoder, and only survivors are decoded in full.

Previews are decoded chunk by chunk like the video itself: a beam carries the preview decoder's state, and the preview
frames of the chunks that the long horizon shows. A survivor is decoded with the carried decoder once, before it is
committed, and those frames are the video's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from streamt1_plugins.api.adapter import Decoded, HasPreview
from streamt1_plugins.api.candidate import Previews
from streamt1_plugins.api.scenes import scene_at
from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.config.rewards import DecodeByHorizon
from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from torch import Tensor

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Horizon
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.config.rewards import Decode
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.search.offload import Offload

FALLBACK = "There are no previews ({}), so rewards score frames that are decoded in full."


def wanted(recipe: Recipe) -> bool:
    """Whether a recipe searches, and rewards of it score previews."""
    return recipe.search.is_wide and _has_previews(recipe, [each for each in HORIZONS if getattr(recipe.rewards, each)])


def _has_previews(recipe: Recipe, horizons: Sequence[Horizon] = HORIZONS) -> bool:
    return any(recipe.rewards.decode_of(each) in ("preview", "auto") for each in horizons)


def decodes_survivors_alone(recipe: Recipe, has_rewards: bool) -> bool:
    """Whether a recipe searches, and no reward reads a candidate: its own parts decode what survives, and no more."""
    return recipe.search.is_wide and not has_rewards


def scores_previews_alone(recipe: Recipe) -> bool:
    """Whether no reward scores frames of the carried decoder, so that only survivors have its states."""
    named = [each for each in HORIZONS if getattr(recipe.rewards, each)]
    return all(recipe.rewards.decode_of(each) != "carried" for each in named)


def kept_chunks(recipe: Recipe) -> int:
    """The newest chunks whose previews a beam keeps: those that the rewards of the next chunk score."""
    return max(1, recipe.rewards.window - 1) if recipe.rewards.long else 1


def settled(recipe: Recipe, has_previews: bool) -> Recipe:
    """The recipe without `auto`, and without `preview` where there are none: `carried` takes their place."""
    kinds = {each: recipe.rewards.decode_of(each) for each in HORIZONS}
    instead: Decode = "preview" if has_previews else "carried"
    kinds = {each: instead if kind in ("preview", "auto") else kind for each, kind in kinds.items()}
    decode = kinds["short"] if len(set(kinds.values())) == 1 else DecodeByHorizon(**kinds)
    return recipe.model_copy(update={"rewards": recipe.rewards.model_copy(update={"decode": decode})})


def problem(session: Session) -> str | None:
    """Why a session has no previews, None where it has."""
    if isinstance(session, HasPreview):
        return session.preview_problem
    return session.capabilities.refusals.get("previews", "the adapter has no preview decoder")


def settle(run: Run, workers: Workers) -> None:
    """Decide whether a run has previews: every process of its search has to be able to make them.

    Without them a note has the reason, unless the recipe wants them where there is a decoder, and the adapter has none.
    """
    if wanted(run.recipe):
        problems = [each for each in workers.all_gather(problem(run.session)) if each]
        named = {run.recipe.rewards.decode_of(each) for each in HORIZONS}
        if problems and ("preview" in named or isinstance(run.session, HasPreview)):
            run.tree.note(FALLBACK.format(problems[0]))
        run.recipe = settled(run.recipe, not problems)


def problem_of(latents: Tensor, decoded: Decoded) -> str | None:
    """Why no video can be made of a candidate: a model in too narrow a dtype overflows, and its frames are NaN."""
    is_finite = bool(latents.isfinite().all() & decoded.frames.isfinite().all())
    return None if is_finite else "The frames are not finite (NaN or infinity)."


@dataclass
class PreviewScoring:
    """The previews of a run's candidates and beams, and the full frames of those that need them."""

    run: Run
    offload: Offload
    workers: Workers
    unscored: Literal["preview", "nothing"] | None = None
    """What stands for the frames of candidates that no reward scores until they survive; None for the frames."""

    @property
    def stand_in(self) -> Literal["preview", "nothing"] | None:
        """What stands for the frames of candidates until they survive, or rewards score the frames themselves."""
        return "preview" if self.is_on else self.unscored

    def settle_unscored(self, is_read: bool) -> None:
        """Decide what stands for the frames of candidates in a search without a reward.

        is_read: whether something in this process may read them; nothing stands for them where it does not in any.
        """
        answers = self.workers.all_gather((is_read, problem(self.run.session)))
        has_previews = not any(problem for _, problem in answers) and _has_previews(self.run.recipe)
        if not any(is_read for is_read, _ in answers):
            self.unscored = "nothing"
        elif has_previews:
            self.unscored = "preview"

    @property
    def is_on(self) -> bool:
        """Whether candidates are previewed, once that is settled; those of a plain run are decoded once in any case."""
        decode = self.run.recipe.rewards.decode_of
        return wanted(self.run.recipe) and any(decode(each) == "preview" for each in HORIZONS)

    def begun(self, beam: Beam) -> Beam:
        """A beam that candidates can continue: previews of its chunks are made where it has none."""
        if self.stand_in != "preview" or beam.previews is not None:
            return beam
        previews = Previews()
        for chunk, latents in enumerate(beam.history.latents):
            previews = self._grown(previews, self.made(previews, latents)[0], chunk)
        return replace(beam, previews=previews)

    def made(self, previews: Previews | None, latents: Tensor) -> list[Decoded]:
        """Previews of N candidates that continue one beam."""
        session = self.run.session
        assert isinstance(session, HasPreview), "a run without previews has fallen back"
        with self.run.cost.timing("preview"):
            return session.preview(latents, previews.state if previews else None)

    def after(self, candidate: Candidate) -> Previews | None:
        """The previews of the beam that a survivor becomes: its preview is made once more.

        Candidates that wait keep no state of the preview decoder, which may be as large as a chunk's frames.
        """
        before = candidate.beam.previews
        if before is None:
            return None
        self.run.cost.latent_frames_previewed += int(candidate.latents.shape[2])
        return self._grown(before, self.made(before, candidate.latents)[0], candidate.beam.history.index)

    def reached(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates, those that can survive decoded in full: rewards are about to score such frames."""
        chosen = {each.ordinal for each in candidates if each.is_eligible and each.previewed}
        decoded = self._decoded(candidates, chosen, self.offload.offload)
        return [replace(each, previewed=each.previewed and each.ordinal not in chosen) for each in decoded]

    def survivors(
        self, candidates: list[Candidate], select: Callable[[list[Candidate]], list[Candidate]]
    ) -> tuple[list[Candidate], list[Candidate]]:
        """(all candidates, those that `select` chose), the latter decoded in full.

        A candidate whose frames turn out not to be finite is invalid, and another one is selected.
        """
        whole: set[int] = set()
        while True:
            kept = select(candidates)
            new = {each.ordinal for each in kept if each.previewed or self.unscored} - whole
            if not new:
                return candidates, kept
            candidates = self._decoded(candidates, new, lambda each, _: each)
            whole |= new

    def _decoded(
        self, candidates: Sequence[Candidate], chosen: Collection[int], wait: Callable[[Candidate, Beam], Candidate]
    ) -> list[Candidate]:
        """The candidates, the `chosen` ones decoded by the processes that have them, and left to `wait`."""
        ordinals = [each.ordinal for each in candidates if each.ordinal in chosen]
        if not ordinals:
            return list(candidates)
        own: dict[int, Candidate] = {each.ordinal: each for each in candidates}
        made: dict[int, Candidate] = {}

        def work(rows: list[int]) -> list[str | None]:
            for row in rows:
                candidate = own[ordinals[row]]
                made[candidate.ordinal] = wait(self._in_full(candidate), candidate.beam)
            return [made[ordinals[row]].problem for row in rows]

        problems = dict(zip(ordinals, self.workers.map(self.run, ordinals, work), strict=True))
        found = (made.get(each.ordinal, each) for each in candidates)
        return [replace(each, problem=problems.get(each.ordinal, each.problem)) for each in found]

    def _in_full(self, candidate: Candidate) -> Candidate:
        """A candidate with the carried decoder's frames and state."""
        self.workers.set_status(f"decoding candidate {candidate.id}")
        run, beam, preview = self.run, self.offload.onload_beam(candidate.beam), candidate.decoded.frames
        with run.spending("decode"):
            decoded = run.session.decode(beam.history, candidate.latents)[0]
        run.cost.latent_frames_decoded += int(candidate.latents.shape[2])
        if candidate.location == "previewed" and decoded.frames.shape != preview.shape:
            raise PluginError(
                f"The preview decoder of adapter {run.recipe.adapter.name!r} made frames {list(preview.shape)}, and "
                f"decoding in full {list(decoded.frames.shape)}; they have to be alike. Switch it off with "
                "rewards.decode=carried."
            )
        problem = candidate.problem or problem_of(candidate.latents, decoded)
        return replace(candidate, decoded=decoded, location="here", problem=problem)

    def _grown(self, before: Previews, made: Decoded, chunk: int) -> Previews:
        """The previews with those of a chunk; of the frames those that the next chunk's rewards score."""
        frames = made.frames.clone()  # a row of a batch would keep all of it
        kept = (*before.frames, frames)[-kept_chunks(self.run.recipe) :]
        is_first = before.first is None or scene_at(self.run.session, chunk).chunk == chunk
        return Previews(kept, frames if is_first else before.first, made.state)
