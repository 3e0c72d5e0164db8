"""Asking one reward about some candidates: in batches it can take, watched, and with the recipe's answer to failure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.image_reward import ImageReward
from streamt1_plugins.errors import ContractError, PluginError, UnreachableError, foreign_code
from streamt1_plugins.evaluation.purity import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamt1_plugins.api.reward import Reward, RewardInput
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.config.rewards import RewardPart
    from streamt1_plugins.config.schema import Recipe

Answer = tuple[float, str | None]
"""(raw score, problem) of one candidate."""


def ask(
    run: Run, name: str, reward: Reward, part: RewardPart, inp: RewardInput, load: Callable[[], None]
) -> list[Answer] | None:
    """One answer per candidate, or None where the reward failed and the recipe says to go on without it.

    Raises `PluginError` where the recipe says so, and `ContractError` always.
    """
    if part.device != "auto":
        inp = inp.to(part.device)
    run.cost.readings += len(inp.prompts)
    try:
        load()
        return [(raw, None) for raw in _scores(run, name, reward, inp)]
    except ContractError:
        raise
    except PluginError as error:
        if part.on_error == "raise":
            raise
        if part.on_error == "skip":
            _note_skipped(run, name, inp, error)
            return None
        return _blamed(run, name, reward, inp, error)


def _scores(run: Run, name: str, reward: Reward, inp: RewardInput) -> list[float]:
    count = len(inp.prompts)
    most = limit(run.recipe, reward) or count
    batches = [inp.take(range(start, min(start + most, count))) for start in range(0, count, most)]
    return [score for batch in batches for score in _call(run, name, reward, batch)]


def limit(recipe: Recipe, reward: Reward) -> int | None:
    """Candidates per call: one where the recipe wants exact results and company could change the last bits."""
    if isinstance(reward, ImageReward):  # its limit counts frames
        return None
    return reward.batch_limit if reward.batch_exact or recipe.search.batch > 1 else 1


def _call(run: Run, name: str, reward: Reward, inp: RewardInput) -> list[float]:
    """The scores of one call; a candidate the reward calls not valid gets NaN."""
    run.cost.reward_calls += 1
    who, count = f"Reward {name!r}", len(inp.prompts)
    with watched(who, inp), foreign_code(who), torch.inference_mode():
        output = reward.score(inp)
        shape, values = tuple(output.scores.shape), output.scores.tolist()
        valid = [True] * count if output.valid is None else output.valid.tolist()
    if shape != (count,) or len(valid) != count:
        raise PluginError(f"{who} returned shape {shape}, expected ({count},).")
    return [float(value) if ok else math.nan for value, ok in zip(values, valid, strict=True)]


def _blamed(run: Run, name: str, reward: Reward, inp: RewardInput, error: PluginError) -> list[Answer]:
    """A failing call is repeated one by one to find whose fault it is."""
    count = len(inp.prompts)
    if count == 1 or isinstance(error, UnreachableError):
        return [(math.nan, str(error))] * count
    return [_alone(run, name, reward, inp.take([row])) for row in range(count)]


def _alone(run: Run, name: str, reward: Reward, inp: RewardInput) -> Answer:
    try:
        return _scores(run, name, reward, inp)[0], None
    except ContractError:
        raise
    except PluginError as error:
        return math.nan, str(error)


def _note_skipped(run: Run, name: str, inp: RewardInput, error: PluginError) -> None:
    """Said once for each reward; which chunks lack it stands in their readings."""
    start = f"Reward {name!r} failed and was left out"
    if not any(note.startswith(start) for note in run.tree.notes):
        run.tree.note(f"{start} where it did, first in chunk {inp.chunk}: {error}")
