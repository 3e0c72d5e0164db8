"""From names in a recipe to objects: every part is a dataclass whose fields are its options."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.errors import PluginError, RecipeError, foreign_code, guess
from streamt1_plugins.plugins.discovery import discovery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.api.adapter import Adapter
    from streamt1_plugins.api.register import PolicyKind
    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.types import Horizon
    from streamt1_plugins.config.rewards import RewardPart, RewardSettings
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.plugins.registry import Entry

POLICY_SECTIONS: tuple[PolicyKind, ...] = ("width", "noise", "scoring", "selection", "memory")
REMEDIES: dict[PolicyKind, str] = {
    "memory": ", or memory.name=fixed",
    "scoring": ", or scoring.window=1",
    "width": ", or width=fixed",
}
"""What compares no chunks, by kind of policy."""


def instance(entry: Entry, options: Mapping[str, Any], where: str) -> Any:
    """Make the part `entry` names. Raises `RecipeError` for an unknown option (with a guess) or a bad value."""
    kind = entry.load()
    if not (inspect.isclass(kind) and dataclasses.is_dataclass(kind)):
        raise PluginError(
            f"{entry.name!r} of {entry.origin} ({entry.target}) must be a dataclass; its fields are its options."
        )
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    for name in options:
        if name not in known:
            raise RecipeError(
                f"{where}: {entry.name!r} has no option {name!r}.{guess(name, known)} "
                f"Its options: {', '.join(known) or 'none'}."
            )
    with foreign_code(f"Reading the options of {entry.name!r} of {entry.origin}"):
        try:
            return TypeAdapter(kind).validate_python(dict(options))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))} = {p['input']!r}: {p['msg']}" for p in error.errors())
            raise RecipeError(f"{where} ({entry.name}): {problems}") from error


def options_of(part: Any) -> dict[str, Any]:
    """All options of a built part, defaults included."""
    return {field.name: getattr(part, field.name) for field in dataclasses.fields(part) if field.init}


def policies(recipe: Recipe) -> dict[PolicyKind, Any]:
    """The width, noise, scoring, selection and memory policies of a recipe."""
    built: dict[PolicyKind, Any] = {}
    for kind in POLICY_SECTIONS:
        part = getattr(recipe, kind)
        built[kind] = instance(discovery().policies[kind][part.name], part.options, kind)
    return built


def observers(recipe: Recipe) -> dict[str, Any]:
    """The observers of a recipe by name."""
    table = discovery().policies["observer"]
    return {name: instance(table[name], options, f"observers.{name}") for name, options in recipe.observers.items()}


def rewards(recipe: Recipe) -> dict[tuple[Horizon, str], Reward]:
    """The rewards of a recipe by (horizon, name); one object serves both horizons where name and options agree."""
    made: dict[str, Reward] = {}
    built: dict[tuple[Horizon, str], Reward] = {}
    for horizon in HORIZONS:
        for name, part in getattr(recipe.rewards, horizon).items():
            key = f"{name} {part.device} {part.where!r} {sorted(part.options.items())!r}"
            if key not in made:
                made[key] = reward(name, part, f"rewards.{horizon}.{name}")
            built[horizon, name] = _serving(made[key], name, horizon)
    return built


def reward(name: str, part: RewardPart, where: str) -> Reward:
    """One reward as the recipe has it, in this process or reached in another one; `where` stands in errors."""
    if part.where is None:
        built: Reward = instance(discovery().rewards[name], part.options, where)
        return built
    from streamt1_plugins.evaluation.remote.client import (
        RemoteReward,  # here: checking a recipe must not cost torch's import
    )

    return RemoteReward(name, part.where, part.options)


def adapter(recipe: Recipe) -> Adapter:
    """The adapter of a recipe that names one."""
    built: Adapter = instance(discovery().adapters[str(recipe.adapter.name)], recipe.adapter.options, "adapter")
    return built


def with_reward_options(recipe: Recipe) -> dict[str, Any]:
    """The recipe's data with every option of its rewards written out, so that no later default can change it.

    A reward in another environment keeps what the recipe says: its defaults are those of what is installed there.
    """
    data = recipe.model_dump(mode="json")
    for horizon in HORIZONS:
        for name, part in getattr(recipe.rewards, horizon).items():
            if part.where is None:
                built = reward(name, part, f"rewards.{horizon}.{name}")
                data["rewards"][horizon][name]["options"] = options_of(built)
    return data


def check_mixing(recipe: Recipe) -> None:
    """Refuse calibrations the recipe's policies cannot use. Raises `RecipeError` with the reason."""
    for kind, policy in policies(recipe).items():
        if getattr(policy, "compares_chunks", False):
            refuse_incomparable(recipe.rewards, f"{kind} {getattr(recipe, kind).name!r}", REMEDIES.get(kind, ""))


def _serving(reward: Reward, name: str, horizon: Horizon) -> Reward:
    if horizon not in reward.horizons:
        raise RecipeError(f"rewards.{horizon}.{name}: {name!r} serves only the horizons {', '.join(reward.horizons)}.")
    return reward


def refuse_incomparable(settings: RewardSettings, who: str, remedy: str) -> None:
    """Refuse calibrations that say nothing across chunks where `who` compares chunks. Raises `RecipeError`."""
    for horizon in HORIZONS:
        for name, part in getattr(settings, horizon).items():
            if part.weight > 0 and not part.is_comparable:
                raise RecipeError(
                    f"rewards.{horizon}.{name}.calibration = {part.calibration!r} cannot be used with {who}, which "
                    "compares the rewards of different chunks: `group` and `rank` only compare the candidates of one. "
                    f"Use none, running or fixed numbers{remedy}."
                )
