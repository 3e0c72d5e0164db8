"""The cost of a run, counted before it starts and without weights: the counters of `api.run.Cost`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.adapter import HasOutline, Outline
from streamt1_plugins.config.rewards import MOST
from streamt1_plugins.config.schema import cannot_draft
from streamt1_plugins.errors import foreign_code
from streamt1_plugins.evaluation.calls import call_limit
from streamt1_plugins.evaluation.cascade import passing, stages
from streamt1_plugins.policies.revision import NEVER, limits_of, share
from streamt1_plugins.policies.width import Bounded, Scheduled, rest_of
from streamt1_plugins.search.previews import decodes_survivors_alone, settled, wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamt1_plugins.api.adapter import Adapter
    from streamt1_plugins.api.types import Horizon, RevisionLimits
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.evaluation.pool import BoundReward

Rewards = tuple["BoundReward", ...]
Policies = Mapping[Any, object]
"""The policies of a run by kind."""
NONE: Policies = {}
LATE = 10**9
"""A chunk for which the last entry of a list counts."""


@dataclass(frozen=True)
class CostEstimate:
    """The cost of one video where nothing fails: no candidate invalid, no reward left out, no process to share with.

    `forwards` and `latent_frames_decoded` are None where the adapter does not know them before the call. A reward in
    another process is counted with one candidate per call, unless candidates are denoised together: how many it takes
    is found out only when it is reached. Without rewards, what a page or a tracker shows of pruned candidates is not
    counted: their previews, or where there are none, their decoding.
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
    recipe: Recipe, adapter: Adapter, rewards: Rewards, num_frames: int | None = None, *, policies: Policies = NONE
) -> str:
    """The estimate in a line; per chunk where the adapter does not know the length of a call.

    policies: the run's, by kind. Where the width or the revision policy decides for itself, there are two lines, the
    least and the most it may cost.
    """
    width, limits = policies.get("width"), _limits(policies)
    least, most = _bounds(recipe, width)
    if not isinstance(adapter, HasOutline):
        line = ("at most, " if least != most else "") + _per_chunk(most, rewards)
        return f"{line}; {_more(limits)}" if _more(limits) else line
    with foreign_code(f"The outline of adapter {recipe.adapter.name!r}"):
        outline = adapter.outline(num_frames)
    least, most = _extremes(recipe, width)
    if least == most and not _more(limits):
        return str(estimate(recipe, rewards, outline, width))
    low, high = estimate(least, rewards, outline, width), at_most(recipe, rewards, outline, policies)
    more = "" if _is_bounded(limits) else f" without what the revision policy adds: {_more(limits)}"
    return f"at least {low}\n       at most {high}{more}"


def at_most(recipe: Recipe, rewards: Rewards, outline: Outline | int, policies: Policies = NONE) -> CostEstimate:
    """The cost of one video, the most that it may be where the width or the revision policy decides for itself.

    outline: of the call, or how many chunks it has where more is not known. What a revision policy with no limits may
    add is not counted.
    """
    width = policies.get("width")
    least, most = _extremes(recipe, width)
    if isinstance(outline, int):
        steps = (MOST + 1,) * outline  # any more than the early ones
        high = _revised(most, rewards, Outline((0,) * outline, (0,) * outline, latent_frames=0, steps=steps), policies)
        return replace(high, forwards=None, latent_frames_decoded=None)
    high, low = _revised(most, rewards, outline, policies), _revised(least, rewards, outline, policies)
    limit = getattr(width, "forwards", None)
    if least == most or limit is None or high.forwards is None or low.forwards is None:
        return high
    return replace(high, forwards=max(low.forwards, min(limit, high.forwards)))


def _limits(policies: Policies) -> RevisionLimits:
    return limits_of(policies["revision"]) if "revision" in policies else NEVER


def _is_bounded(limits: RevisionLimits) -> bool:
    return limits.rounds is not None and limits.returns is not None


def _more(limits: RevisionLimits) -> str:
    """What a revision policy may add to a search that looks only forward, in words; empty where that is nothing."""
    if limits.returns == 0 and limits.rounds == 1:
        return ""
    rounds = "any number of" if limits.rounds is None else "up to " + str(limits.rounds)
    shared = " that share the width" if limits.shared else ""
    returns = "any number of" if limits.returns is None else "up to " + str(limits.returns)
    reach = "any number of" if limits.reach is None else str(limits.reach)
    parts = [f"{rounds} rounds a chunk{shared}"] * (limits.rounds != 1)
    return ", ".join(parts + [f"{returns} returns of {reach} chunks"] * (limits.returns != 0))


def _revised(recipe: Recipe, rewards: Rewards, outline: Outline, policies: Policies) -> CostEstimate:
    """The cost of one video with as many rounds and returns as the revision policy declares."""
    limits, count = _limits(policies), len(outline.generate)
    sizes = [_rounds(width, limits) for width in _widths(recipe, outline, policies.get("width"))]
    chunks = [_of_chunk(recipe, rewards, outline, index, each) for index, each in enumerate(sizes)]
    again = min(count, count if limits.reach is None else limits.reach + 1)
    windows = [_sum(chunks[start : start + again]) for start in range(count - again + 1)]
    worst = {name: max(getattr(each, name) or 0 for each in windows) for name in asdict(chunks[0])}
    calls, readings = _whole_video_calls(recipe, rewards)
    whole = CostEstimate(0, 0, 0, 0, calls, readings)
    return replace(_sum([*chunks, whole, CostEstimate(**worst).times(limits.returns or 0)]), chunks=count)


def _rounds(candidates: int, limits: RevisionLimits) -> list[int]:
    """Candidates for each beam, round by round."""
    count = limits.rounds or 1
    if not limits.shared:
        return [candidates] * count
    return [size for size in share(candidates, count) if size]


def _sum(some: Sequence[CostEstimate]) -> CostEstimate:
    names = [item.name for item in fields(CostEstimate)]
    return CostEstimate(**{name: sum(getattr(each, name) or 0 for each in some) for name in names})


def _widths(recipe: Recipe, outline: Outline, width: object) -> Sequence[int]:
    """Candidates per beam, chunk by chunk."""
    if isinstance(width, Scheduled):
        return width.schedule(recipe, outline)
    return [recipe.search.candidates] * len(outline.generate)


def _extremes(recipe: Recipe, width: object) -> tuple[Recipe, Recipe]:
    """The recipes of the least and the most that a run may cost; the same one where the widths are known."""
    return (recipe, recipe) if isinstance(width, Scheduled) else _bounds(recipe, width)


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
    predicted = _predictions(recipe, rewards, early, finished)
    steps += f" + {predicted}" if predicted else ""
    return (
        f"per chunk: {width} candidates, {steps} + {kept} transformer forwards (S steps, and a clean pass for each "
        f"survivor where the model has one, but for the last chunk), {width * early + finished} chunks decoded, "
        f"{calls} reward calls ({readings} readings)"
    )


def estimate(recipe: Recipe, rewards: Rewards, outline: Outline, width: object = None) -> CostEstimate:
    """The cost of one video of a complete recipe with these rewards, whose search looks only forward.

    width: the width policy, where it is `Scheduled`; without one every chunk has `search.candidates` per beam.
    Raises `RecipeError` where the recipe wants early pruning and the adapter's sessions make no drafts.
    """
    return _revised(recipe, rewards, outline, {"width": width})


def _of_chunk(recipe: Recipe, rewards: Rewards, outline: Outline, index: int, rounds: Sequence[int]) -> CostEstimate:
    """The cost of one chunk, made in rounds of so many candidates for each beam."""
    settings, top_k = settled(recipe, outline.previews), recipe.search.top_k
    made = _sum([_of_round(settings.sized(candidates=count), rewards, outline, index) for count in rounds])
    decoded, previewed = _decodes_of_survivors(settings, rewards, _finished(settings, index)), top_k * wanted(settings)
    return replace(
        made,
        chunks=1,
        forwards=(made.forwards or 0) + top_k * outline.commit[index],
        latent_frames_decoded=(made.latent_frames_decoded or 0) + outline.latent_frames * decoded,
        latent_frames_previewed=made.latent_frames_previewed + outline.latent_frames * previewed,
    )


def _of_round(recipe: Recipe, rewards: Rewards, outline: Outline, index: int) -> CostEstimate:
    """The cost of one round of candidates, until some of them survive."""
    width, early = _width(recipe), _is_pruned_early(recipe, outline, index)
    finished = _finished(recipe, index) if early else width
    calls = [_preview_calls(recipe, rewards, early), _stage_calls(recipe, rewards, finished)]
    return CostEstimate(
        chunks=0,
        candidates=width,
        forwards=_denoising(recipe, outline, index, early) + _predictions(recipe, rewards, early, finished),
        latent_frames_decoded=outline.latent_frames * _decodes(recipe, rewards, index, early),
        reward_calls=sum(each for each, _ in calls),
        readings=sum(readings for _, readings in calls),
        latent_frames_previewed=outline.latent_frames * _previewed(recipe, index, early),
    )


def _width(recipe: Recipe) -> int:
    return recipe.search.candidates * recipe.search.top_k


def _finished(recipe: Recipe, chunk: int) -> int:
    """Candidates of a chunk that are finished where they are pruned early."""
    width = _width(recipe)
    prunes = recipe.early.steps and recipe.rewards.are_named
    return passing(recipe.early.keep_in(chunk), width, recipe.search) if prunes else width


def _is_pruned_early(recipe: Recipe, outline: Outline, index: int) -> bool:
    """Whether a chunk's candidates are pruned early."""
    if _finished(recipe, index) == _width(recipe):
        return False
    if not outline.steps:
        raise cannot_draft(recipe.adapter.name)
    return outline.steps[index] > recipe.early.steps_of(outline.steps[index])


def _denoising(recipe: Recipe, outline: Outline, index: int, early: bool) -> int:
    """Transformer forwards of a chunk's candidates; those pruned early take the first steps alone."""
    total = _width(recipe) * outline.generate[index]
    saved = rest_of(outline, index, recipe.early) * (_width(recipe) - _finished(recipe, index))
    return total - saved if early else total


def _previewed(recipe: Recipe, index: int, early: bool) -> int:
    """Candidates that the preview decoder makes frames of; survivors come once more, for the state behind them."""
    if not wanted(recipe):
        return 0
    return _finished(recipe, index) + _width(recipe) if early else _width(recipe)


def _decodes(recipe: Recipe, rewards: Rewards, index: int, early: bool) -> int:
    """Chunks decoded for the candidates of a chunk: their own, previews, windows of a cold decode."""
    finished, previews = (_finished(recipe, index), _width(recipe)) if early else (_width(recipe), 0)
    sizes: dict[Horizon, int] = {"short": 1, "long": min(recipe.rewards.window, index + 1)}
    every, first = (_horizons(some) for some in (stages(rewards), stages(rewards)[:1]))
    are_cold = {each for each in every if recipe.rewards.decode_of(each) == "cold"}
    cold = sum(finished * sizes[each] + previews * sizes[each] * (each in first) for each in are_cold)
    whole = _in_full(recipe, rewards, finished) if _waits(recipe, rewards) else finished
    drafts = previews * _is_carried(recipe, first) if wanted(recipe) else previews
    return whole + drafts + cold


def _decodes_of_survivors(recipe: Recipe, rewards: Rewards, finished: int) -> int:
    """Chunks decoded for the survivors of a chunk, of whose `finished` candidates states were dropped or never made."""
    whole = _in_full(recipe, rewards, finished) if _waits(recipe, rewards) else finished
    is_dropped = recipe.search.offload == "recompute"
    return recipe.search.top_k if is_dropped or whole == 0 else 0


def _waits(recipe: Recipe, rewards: Rewards) -> bool:
    """Whether candidates are decoded in full only where rewards score such frames, or they survive."""
    return wanted(recipe) or decodes_survivors_alone(recipe, bool(rewards))


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


def _predictions(recipe: Recipe, rewards: Rewards, early: bool, left: int) -> int:
    """Forwards of the rewards that judge with the video model, for the candidates of one chunk that are finished."""
    first, *_ = stages(rewards) or [[]]
    total = _width(recipe) * sum(bound.denoiser_calls for bound in first) if early else 0
    for stage in stages(rewards):
        total += left * sum(bound.denoiser_calls for bound in stage)
        left = passing(recipe.rewards.keep, left, recipe.search)
    return total


def _whole_video_calls(recipe: Recipe, rewards: Rewards) -> tuple[int, int]:
    """(calls, readings) of the final choice."""
    long = [bound for bound in rewards if bound.horizon == "long" and not bound.denoiser_calls]
    kept = recipe.search.top_k
    if recipe.search.final != "whole_video" or kept == 1:
        return 0, 0
    return _calls(recipe, long, kept), kept * len(long)


def _calls(recipe: Recipe, rewards: Iterable[BoundReward], candidates: int) -> int:
    return sum(-(-candidates // (call_limit(recipe.search, bound.reward) or candidates)) for bound in rewards)
