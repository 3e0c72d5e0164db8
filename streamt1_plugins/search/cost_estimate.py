"""What a run will cost, counted before it starts and without weights: the counters of `contracts.Cost`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamt1_plugins.api.adapter import HasOutline
from streamt1_plugins.config.schema import cannot_draft
from streamt1_plugins.errors import foreign_code
from streamt1_plugins.evaluation.calls import limit
from streamt1_plugins.evaluation.cascade import places, stages
from streamt1_plugins.policies.width import Bounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streamt1_plugins.api.adapter import Adapter, Outline
    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.types import Horizon
    from streamt1_plugins.config.rewards import RewardPart
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.evaluation.cascade import Named


@dataclass(frozen=True)
class Forecast:
    """The cost of one video where nothing fails: no candidate invalid, no reward left out, no process to share with.

    A reward in another process is counted with one candidate per call, unless candidates are denoised together: how
    many it takes is known only when it is reached.
    """

    chunks: int
    candidates: int
    forwards: int
    latent_frames_decoded: int
    reward_calls: int
    readings: int

    def __str__(self) -> str:
        return (
            f"{self.chunks} chunks: {self.candidates} candidates, {self.forwards} transformer forwards, "
            f"{self.latent_frames_decoded} latent frames decoded, {self.reward_calls} reward calls "
            f"({self.readings} readings)"
        )


def described(
    recipe: Recipe,
    adapter: Adapter,
    rewards: Mapping[Named, Reward],
    num_frames: int | None = None,
    width: object = None,
) -> str:
    """The forecast in a line, or what is known per chunk where the adapter cannot tell the length of a call.

    width: the width policy. Where it decides for itself, there are two lines, the least and the most it may cost.
    """
    if isinstance(width, Bounded):
        least, most = (sized(recipe, count) for count in width.bounds(recipe.search))
    else:
        least = most = recipe
    if not isinstance(adapter, HasOutline):
        return ("at most, " if least != most else "") + _per_chunk(most, rewards)
    with foreign_code(f"Adapter {recipe.adapter.name!r}, asked what a call takes,"):
        outline = adapter.outline(num_frames)
    if least == most:
        return str(forecast(recipe, rewards, outline))
    low, high = (forecast(each, rewards, outline) for each in (least, most))
    limit = getattr(width, "forwards", None) or high.forwards
    high = replace(high, forwards=max(low.forwards, min(limit, high.forwards)))
    return f"at least {low}\n       at most {high}"


def sized(recipe: Recipe, candidates: int) -> Recipe:
    """The recipe with that many candidates per beam."""
    return recipe.model_copy(update={"search": recipe.search.model_copy(update={"candidates": candidates})})


def _per_chunk(recipe: Recipe, rewards: Mapping[Named, Reward]) -> str:
    width, finished, kept = _width(recipe), _finished(recipe), recipe.search.top_k
    early = width > finished
    looks, asked = _asked_of_previews(recipe, rewards, early), _asked(recipe, rewards, finished)
    calls, readings = (sum(each) for each in zip(looks, asked, strict=True))
    steps = f"{width * recipe.early.steps} + {finished} (S - {recipe.early.steps})" if early else f"{width} S"
    return (
        f"per chunk: {width} candidates, {steps} + {kept} transformer forwards (S steps, and a clean pass for each "
        f"survivor where the model has one, but for the last chunk), {width * early + finished} chunks decoded, "
        f"{calls} reward calls ({readings} readings)"
    )


def forecast(recipe: Recipe, rewards: Mapping[Named, Reward], outline: Outline) -> Forecast:
    """The cost of one video of a complete recipe with these rewards.

    Raises `RecipeError` where the recipe wants an early look and the adapter's sessions make no drafts.
    """
    width, chunks, looks = _width(recipe), len(outline.generate), _looks(recipe, outline)
    finished = [_finished(recipe) if look else width for look in looks]
    asked = [_asked_of_previews(recipe, rewards, look) for look in looks]
    asked += [_asked(recipe, rewards, count) for count in finished]
    asked += [_asked_of_whole_videos(recipe, rewards)]
    return Forecast(
        chunks=chunks,
        candidates=width * chunks,
        forwards=_denoising(recipe, outline, looks) + recipe.search.top_k * sum(outline.commit),
        latent_frames_decoded=outline.latent_frames * sum(_decodes(recipe, *each) for each in enumerate(looks)),
        reward_calls=sum(calls for calls, _ in asked),
        readings=sum(readings for _, readings in asked),
    )


def _width(recipe: Recipe) -> int:
    return recipe.search.candidates * recipe.search.top_k


def _finished(recipe: Recipe) -> int:
    """Candidates of a chunk that are finished where there is an early look."""
    width = _width(recipe)
    has_look = recipe.early.steps and recipe.rewards.are_named
    return places(recipe, recipe.early.keep, width) if has_look else width


def _looks(recipe: Recipe, outline: Outline) -> list[bool]:
    """Whether a chunk's candidates are looked at early, chunk by chunk."""
    if _finished(recipe) == _width(recipe):
        return [False] * len(outline.generate)
    if not outline.steps:
        raise cannot_draft(recipe.adapter.name)
    return [steps > recipe.early.steps for steps in outline.steps]


def _denoising(recipe: Recipe, outline: Outline, looks: Sequence[bool]) -> int:
    """Transformer forwards of all candidates; those left behind take the first steps alone."""
    total = _width(recipe) * sum(outline.generate)
    for forwards, steps, look in zip(outline.generate, outline.steps or looks, looks, strict=True):
        saved = forwards * (steps - recipe.early.steps) // steps if look else 0
        total -= saved * (_width(recipe) - _finished(recipe))
    return total


def _decodes(recipe: Recipe, index: int, look: bool) -> int:
    """Chunks decoded for a chunk of the video: candidates, previews, windows of a cold decode, survivors once more."""
    finished, previews = (_finished(recipe), _width(recipe)) if look else (_width(recipe), 0)
    again = recipe.search.top_k if recipe.search.offload == "recompute" else 0
    if recipe.rewards.decode == "carried":
        return finished + previews + again
    sizes: dict[Horizon, int] = {"short": 1, "long": min(recipe.rewards.window, index + 1)}
    every, first = (_horizons(some) for some in (stages(recipe.rewards), stages(recipe.rewards)[:1]))
    cold = finished * sum(sizes[each] for each in every) + previews * sum(sizes[each] for each in first)
    return finished + previews + again + cold


def _horizons(some: Sequence[Mapping[Named, RewardPart]]) -> set[Horizon]:
    return {horizon for stage in some for horizon, _ in stage}


def _asked_of_previews(recipe: Recipe, rewards: Mapping[Named, Reward], look: bool) -> tuple[int, int]:
    """(calls, readings) of an early look, where there is one."""
    if not look:
        return 0, 0
    first = stages(recipe.rewards)[0]
    return _calls(recipe, (rewards[named] for named in first), _width(recipe)), _width(recipe) * len(first)


def _asked(recipe: Recipe, rewards: Mapping[Named, Reward], left: int) -> tuple[int, int]:
    """(calls, readings) of the candidates of one chunk that are finished, through all stages of the rewards."""
    calls, readings = 0, 0
    for stage in stages(recipe.rewards):
        calls += _calls(recipe, (rewards[named] for named in stage), left)
        readings += left * len(stage)
        left = places(recipe, recipe.rewards.keep, left)
    return calls, readings


def _asked_of_whole_videos(recipe: Recipe, rewards: Mapping[Named, Reward]) -> tuple[int, int]:
    """(calls, readings) of the final choice."""
    long, kept = [reward for (horizon, _), reward in rewards.items() if horizon == "long"], recipe.search.top_k
    if recipe.search.final != "whole_video" or kept == 1:
        return 0, 0
    return _calls(recipe, long, kept), kept * len(long)


def _calls(recipe: Recipe, rewards: Iterable[Reward], candidates: int) -> int:
    return sum(-(-candidates // (limit(recipe, reward) or candidates)) for reward in rewards)
