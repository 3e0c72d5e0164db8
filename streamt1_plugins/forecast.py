"""What a run will cost, counted before it starts and without weights: the counters of `contracts.Cost`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from streamt1_plugins.adapter import HasOutline
from streamt1_plugins.asking import limit
from streamt1_plugins.cascade import stages
from streamt1_plugins.errors import foreign_code
from streamt1_plugins.policies.width import Bounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamt1_plugins.adapter import Adapter, Outline
    from streamt1_plugins.cascade import Named
    from streamt1_plugins.recipe import Recipe
    from streamt1_plugins.reward import Reward


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
    width, kept = _width(recipe), recipe.search.top_k
    calls, readings = _asked(recipe, rewards)
    return (
        f"per chunk: {width} candidates, {width} S + {kept} transformer forwards (S steps, and a clean pass for each "
        f"survivor where the model has one, but for the last chunk), {width} chunks decoded, {calls} reward calls "
        f"({readings} readings)"
    )


def forecast(recipe: Recipe, rewards: Mapping[Named, Reward], outline: Outline) -> Forecast:
    """The cost of one video of a complete recipe with these rewards."""
    width, kept, chunks = _width(recipe), recipe.search.top_k, len(outline.generate)
    calls, readings = _asked(recipe, rewards)
    last_calls, last_readings = _asked_of_whole_videos(recipe, rewards)
    return Forecast(
        chunks=chunks,
        candidates=width * chunks,
        forwards=width * sum(outline.generate) + kept * sum(outline.commit),
        latent_frames_decoded=outline.latent_frames * _chunks_decoded(recipe, chunks),
        reward_calls=calls * chunks + last_calls,
        readings=readings * chunks + last_readings,
    )


def _width(recipe: Recipe) -> int:
    return recipe.search.candidates * recipe.search.top_k


def _chunks_decoded(recipe: Recipe, chunks: int) -> int:
    """Each candidate's own, those that are decoded again for the survivors, and the windows of a cold decode."""
    again = recipe.search.top_k * chunks if recipe.search.park == "recompute" else 0
    cold = 0
    if recipe.rewards.decode == "cold":
        windows = sum(min(recipe.rewards.window, index + 1) for index in range(chunks))
        cold = bool(recipe.rewards.short) * chunks + bool(recipe.rewards.long) * windows
    return _width(recipe) * (chunks + cold) + again


def _asked(recipe: Recipe, rewards: Mapping[Named, Reward]) -> tuple[int, int]:
    """(calls, readings) of one chunk, through all stages of the rewards."""
    calls, readings, left = 0, 0, _width(recipe)
    for stage in stages(recipe.rewards):
        calls += _calls(recipe, (rewards[named] for named in stage), left)
        readings += left * len(stage)
        left = min(left, max(recipe.search.top_k, math.ceil(recipe.rewards.keep * left)))
    return calls, readings


def _asked_of_whole_videos(recipe: Recipe, rewards: Mapping[Named, Reward]) -> tuple[int, int]:
    """(calls, readings) of the final choice."""
    long, kept = [reward for (horizon, _), reward in rewards.items() if horizon == "long"], recipe.search.top_k
    if recipe.search.final != "whole_video" or kept == 1:
        return 0, 0
    return _calls(recipe, long, kept), kept * len(long)


def _calls(recipe: Recipe, rewards: Iterable[Reward], candidates: int) -> int:
    return sum(-(-candidates // (limit(recipe, reward) or candidates)) for reward in rewards)
