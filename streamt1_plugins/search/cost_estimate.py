"""The cost of a run, counted before it starts and without weights: the counters of `api.run.Cost`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.adapter import HasOutline, Outline
from streamt1_plugins.config.rewards import MOST
from streamt1_plugins.config.schema import cannot_draft
from streamt1_plugins.errors import foreign_code
from streamt1_plugins.evaluation.calls import call_limit
from streamt1_plugins.evaluation.cascade import passing, stages
from streamt1_plugins.policies.width import Bounded, Scheduled, rest_of
from streamt1_plugins.search.previews import settled, wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamt1_plugins.api.adapter import Adapter
    from streamt1_plugins.api.types import Horizon
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.evaluation.pool import BoundReward

Rewards = tuple["BoundReward", ...]
LATE = 10**9
"""A chunk for which the last entry of a list counts."""


@dataclass(frozen=True)
class CostEstimate:
    """The cost of one video where nothing fails: no candidate invalid, no reward left out, no process to share with.

    `forwards` and `latent_frames_decoded` are None where the adapter does not know them before the call. A reward in
    another process is counted with one candidate per call, unless candidates are denoised together: how many it takes
    is found out only when it is reached.
    """

    chunks: int
    candidates: int
    forwards: int | None
    latent_frames_decoded: int | None
    reward_calls: int
    readings: int
    latent_frames_previewed: int = 0

    def __str__(self) -> str:
        previewed = f", {self.latent_frames_previewed} previewed" if self.latent_frames_previewed else ""
        model = (
            "transformer forwards not known before the call"
            if self.forwards is None
            else f"{self.forwards} transformer forwards, {self.latent_frames_decoded} latent frames decoded{previewed}"
        )
        return (
            f"{self.chunks} chunks: {self.candidates} candidates, {model}, {self.reward_calls} reward calls "
            f"({self.readings} readings)"
        )

    def times(self, videos: int) -> CostEstimate:
        """The cost of several such videos."""
        counts: dict[str, Any] = asdict(self)
        return replace(self, **{name: count and count * videos for name, count in counts.items()})


def describe(
    recipe: Recipe, adapter: Adapter, rewards: Rewards, num_frames: int | None = None, width: object = None
) -> str:
    """The estimate in a line; per chunk where the adapter does not know the length of a call.

    width: the width policy. Where it decides for itself, there are two lines, the least and the most it may cost.
    """
    least, most = _bounds(recipe, width)
    if not isinstance(adapter, HasOutline):
        return ("at most, " if least != most else "") + _per_chunk(most, rewards)
    with foreign_code(f"The outline of adapter {recipe.adapter.name!r}"):
        outline = adapter.outline(num_frames)
    if least == most or isinstance(width, Scheduled):
        return str(estimate(recipe, rewards, outline, width))
    low, high = estimate(least, rewards, outline), at_most(recipe, rewards, outline, width)
    return f"at least {low}\n       at most {high}"


def at_most(recipe: Recipe, rewards: Rewards, outline: Outline | int, width: object) -> CostEstimate:
    """The cost of one video, the most that it may be where the width policy decides for itself.

    outline: of the call, or how many chunks it has where more is not known.
    """
    least, most = _bounds(recipe, width)
    if isinstance(outline, int):
        steps = (MOST + 1,) * outline  # any more than the early ones
        alike = Outline((0,) * outline, (0,) * outline, latent_frames=0, steps=steps)
        high = estimate(recipe if isinstance(width, Scheduled) else most, rewards, alike, width)
        return replace(high, forwards=None, latent_frames_decoded=None)
    if isinstance(width, Scheduled):
        return estimate(recipe, rewards, outline, width)
    high, low = (estimate(each, rewards, outline) for each in (most, least))
    limit = getattr(width, "forwards", None)
    if least == most or limit is None or high.forwards is None or low.forwards is None:
        return high
    return replace(high, forwards=max(low.forwards, min(limit, high.forwards)))


def _bounds(recipe: Recipe, width: object) -> tuple[Recipe, Recipe]:
    """The recipe with the fewest and the most candidates that the width policy may choose."""
    if not isinstance(width, Bounded):
        return recipe, recipe
    least, most = width.bounds(recipe.search)
    return recipe.sized(candidates=least), recipe.sized(candidates=most)


def _per_chunk(recipe: Recipe, rewards: Rewards) -> str:
    recipe = settled(recipe, False)  # whether there are previews is not known
    width, finished, kept, first = _width(recipe), _finished(recipe, LATE), recipe.search.top_k, recipe.early.steps
    early = width > finished
    previewed, evaluated = _preview_calls(recipe, rewards, early), _stage_calls(recipe, rewards, finished)
    calls, readings = (sum(each) for each in zip(previewed, evaluated, strict=True))
    taken, left = (f"{first:g} S", f"{1 - first:g} S") if first < 1 else (str(first), f"(S - {first})")
    before = f"{width * first}" if first >= 1 else f"{width} * {taken}"
    steps = f"{before} + {finished} {left}" if early else f"{width} S"
    return (
        f"per chunk: {width} candidates, {steps} + {kept} transformer forwards (S steps, and a clean pass for each "
        f"survivor where the model has one, but for the last chunk), {width * early + finished} chunks decoded, "
        f"{calls} reward calls ({readings} readings)"
    )


def estimate(recipe: Recipe, rewards: Rewards, outline: Outline, width: object = None) -> CostEstimate:
    """The cost of one video of a complete recipe with these rewards.

    width: the width policy, where it is `Scheduled`; without one every chunk has `search.candidates` per beam. Raises
    `RecipeError` where the recipe wants early pruning and the adapter's sessions make no drafts.
    """
    recipe = settled(recipe, outline.previews)
    sized = _sized(recipe, outline, width)
    early = _pruned_early(sized, outline)
    chunks = [(each, index, early[index]) for index, each in enumerate(sized)]
    finished = [_finished(*each) for each in chunks]
    calls = [_preview_calls(each, rewards, pruned) for each, _, pruned in chunks]
    calls += [_stage_calls(recipe, rewards, count) for count in finished]
    calls += [_whole_video_calls(recipe, rewards)]
    return CostEstimate(
        chunks=len(chunks),
        candidates=sum(map(_width, sized)),
        forwards=sum(_denoising(outline, *each) for each in chunks) + recipe.search.top_k * sum(outline.commit),
        latent_frames_decoded=outline.latent_frames
        * sum(_decodes(each, rewards, index, pruned) for each, index, pruned in chunks),
        reward_calls=sum(each for each, _ in calls),
        readings=sum(readings for _, readings in calls),
        latent_frames_previewed=outline.latent_frames * sum(_previewed(*each) for each in chunks),
    )


def _sized(recipe: Recipe, outline: Outline, width: object) -> list[Recipe]:
    """The recipe with the candidates per beam of every chunk."""
    if not isinstance(width, Scheduled):
        return [recipe] * len(outline.generate)
    return [recipe.sized(candidates=each) for each in width.schedule(recipe, outline)]


def _width(recipe: Recipe) -> int:
    return recipe.search.candidates * recipe.search.top_k


def _finished(recipe: Recipe, chunk: int, early: bool = True) -> int:
    """Candidates of a chunk that are finished, where those of the chunk may be pruned early."""
    width = _width(recipe)
    prunes = early and recipe.early.steps and recipe.rewards.are_named
    return passing(recipe.early.keep_in(chunk), width, recipe.search) if prunes else width


def _pruned_early(sized: Sequence[Recipe], outline: Outline) -> list[bool]:
    """Whether a chunk's candidates are pruned early, chunk by chunk."""
    prunes = [_finished(each, index) < _width(each) for index, each in enumerate(sized)]
    if not any(prunes):
        return prunes
    early = sized[0].early
    if not outline.steps:
        raise cannot_draft(sized[0].adapter.name)
    return [each and steps > early.steps_of(steps) for each, steps in zip(prunes, outline.steps, strict=True)]


def _denoising(outline: Outline, recipe: Recipe, chunk: int, early: bool) -> int:
    """Transformer forwards of a chunk's candidates; those pruned early take the first steps alone."""
    unfinished = _width(recipe) - _finished(recipe, chunk, early)
    return _width(recipe) * outline.generate[chunk] - rest_of(outline, chunk, recipe.early) * unfinished


def _previewed(recipe: Recipe, index: int, early: bool) -> int:
    """Chunks that the preview decoder makes frames of for a chunk of the video."""
    if not wanted(recipe):
        return 0
    candidates = _finished(recipe, index) + _width(recipe) if early else _width(recipe)
    return candidates + recipe.search.top_k  # survivors once more, for the state behind them


def _decodes(recipe: Recipe, rewards: Rewards, index: int, early: bool) -> int:
    """Chunks decoded for a chunk of the video: candidates, previews, windows of a cold decode, survivors once more."""
    finished, previews = (_finished(recipe, index), _width(recipe)) if early else (_width(recipe), 0)
    sizes: dict[Horizon, int] = {"short": 1, "long": min(recipe.rewards.window, index + 1)}
    every, first = (_horizons(some) for some in (stages(rewards), stages(rewards)[:1]))
    are_cold = {each for each in every if recipe.rewards.decode_of(each) == "cold"}
    cold = sum(finished * sizes[each] + previews * sizes[each] * (each in first) for each in are_cold)
    whole = _in_full(recipe, rewards, finished) if wanted(recipe) else finished
    drafts = previews * _is_carried(recipe, first) if wanted(recipe) else previews
    waits = recipe.search.offload == "recompute" and (whole > 0 or not wanted(recipe))
    survivors = recipe.search.top_k if waits or whole == 0 else 0
    return whole + drafts + survivors + cold


def _in_full(recipe: Recipe, rewards: Rewards, left: int) -> int:
    """Of `left` previewed candidates, those that reach a stage of rewards that scores frames decoded in full."""
    for stage in stages(rewards):
        if _is_carried(recipe, {bound.horizon for bound in stage}):
            return left
        left = passing(recipe.rewards.keep, left, recipe.search)
    return 0


def _is_carried(recipe: Recipe, horizons: set[Horizon]) -> bool:
    return any(recipe.rewards.decode_of(each) == "carried" for each in horizons)


def _horizons(some: Sequence[Sequence[BoundReward]]) -> set[Horizon]:
    return {bound.horizon for stage in some for bound in stage}


def _preview_calls(recipe: Recipe, rewards: Rewards, early: bool) -> tuple[int, int]:
    """(calls, readings) of the previews, where there are any."""
    if not early:
        return 0, 0
    first = stages(rewards)[0]
    return _calls(recipe, first, _width(recipe)), _width(recipe) * len(first)


def _stage_calls(recipe: Recipe, rewards: Rewards, left: int) -> tuple[int, int]:
    """(calls, readings) of the candidates of one chunk that are finished, through all stages of the rewards."""
    calls, readings = 0, 0
    for stage in stages(rewards):
        calls += _calls(recipe, stage, left)
        readings += left * len(stage)
        left = passing(recipe.rewards.keep, left, recipe.search)
    return calls, readings


def _whole_video_calls(recipe: Recipe, rewards: Rewards) -> tuple[int, int]:
    """(calls, readings) of the final choice."""
    long, kept = [bound for bound in rewards if bound.horizon == "long"], recipe.search.top_k
    if recipe.search.final != "whole_video" or kept == 1:
        return 0, 0
    return _calls(recipe, long, kept), kept * len(long)


def _calls(recipe: Recipe, rewards: Iterable[BoundReward], candidates: int) -> int:
    return sum(-(-candidates // (call_limit(recipe.search, bound.reward) or candidates)) for bound in rewards)
