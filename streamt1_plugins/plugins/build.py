"""From names in a recipe to objects: every plugin is a dataclass whose fields are its options."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.config.plain import plain
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError, PluginError, RecipeError, brief, foreign_code, guess, shown
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.plugins.given import NOTHING_GIVEN, POLICY_SECTIONS, Given, PerRun, check_hooks, check_mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.api.adapter import Adapter
    from streamt1_plugins.api.register import PolicyKind
    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.config.rewards import RewardPart, RewardSettings
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.evaluation.pool import BoundReward
    from streamt1_plugins.plugins.registry import Entry

REMEDIES: dict[PolicyKind, str] = {
    "memory": ", or memory.name=fixed",
    "selection": ", or selection=top_k",
    "revision": ", or revision=none",
    "scoring": ", or scoring.window=1",
    "width": ", or width=fixed",
}
"""What compares no chunks and needs no search, by kind of policy."""


SET_BY_CALLER = ("path", "append")
"""Options of observers that whoever gives an observer as an object decides, also where they are left at a default."""


def instance(entry: Entry, options: Mapping[str, Any], where: str) -> Any:
    """The plugin that `entry` names. Raises `RecipeError` for an unknown option (with a guess) or a bad value."""
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
            return TypeAdapter(kind).validate_json(json.dumps(plain(options, where)), strict=True)
        except ValidationError as error:
            raise RecipeError(f"{where} ({entry.name}): {brief('; '.join(_problems(error)))}") from error


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] in ("missing", "missing_argument"):
            yield f"{key} is missing: this option has no default"
        else:
            yield f"{key} = {shown(problem['input'])}: {problem['msg']}"


def options_of(plugin: Any) -> dict[str, Any]:
    """All options of a plugin, defaults included; none where it is no dataclass."""
    if not dataclasses.is_dataclass(plugin):
        return {}
    with foreign_code(f"Reading the options of {type(plugin).__name__}"):
        return {field.name: getattr(plugin, field.name) for field in dataclasses.fields(plugin) if field.init}


def written_options(plugin: Any) -> dict[str, Any]:
    """All options of a plugin as a recipe writes them: plain data. Raises `PluginError` for a type it cannot write."""
    try:
        found: dict[str, Any] = to_jsonable_python(options_of(plugin))
    except PydanticSerializationError as error:
        raise PluginError(f"An option of {type(plugin).__name__} cannot be written to a recipe: {error}") from error
    return found


def plain_options(plugin: Any) -> dict[str, Any]:
    """The options of an object that a recipe can record: those that JSON can hold."""
    from streamt1_plugins.runs.events import recordable

    return recordable(options_of(plugin))[0]


def policies(recipe: Recipe, given: Given = NOTHING_GIVEN) -> dict[PolicyKind, Any]:
    """The width, noise, scoring, selection and memory policies of a recipe."""
    built: dict[PolicyKind, Any] = {}
    for kind in POLICY_SECTIONS:
        section = getattr(recipe, kind)
        if kind in given.policies:
            built[kind] = given.policies[kind]
        else:
            built[kind] = instance(discovery().policies[kind][section.name], section.options, kind)
    return built


def observers(recipe: Recipe, given: Mapping[str, object] | None = None, prompt: str | None = None) -> dict[str, Any]:
    """The observers of a run by name: those given, as objects or as options by name, then those that the recipe adds.

    A given one has the options that the recipe names for it. prompt: of the run, None to check them only. Raises
    `RecipeError` where its own differ, `InputError` for what is no observer, and `UnknownNameError`.
    """
    table, found = discovery().policies["observer"], _given_observers(given or {}, prompt)
    asked = {name: _at_home(options) for name, options in recipe.observers.items()}
    for name in found.keys() & asked.keys():
        found[name] = _with_options(table[name], found[name], asked[name], f"observers.{name}")
    added = {name: options for name, options in asked.items() if name not in found}
    return found | {name: instance(table[name], options, f"observers.{name}") for name, options in added.items()}


def _given_observers(given: Mapping[str, object], prompt: str | None) -> dict[str, Any]:
    """The observers that the caller gives, those of one run made for it."""
    found: dict[str, Any] = {}
    table = discovery().policies["observer"]
    check_mapping("observers", given, table)
    for name, each in given.items():
        where = f"observers[{name!r}]"
        if isinstance(each, PerRun) and not inspect.isclass(each):
            found.update(each.for_run(prompt))
        elif isinstance(each, Mapping):
            found[name] = instance(table[name], _at_home(each), where)
        else:
            check_hooks(where, each)
            found[name] = each
    return found


def _at_home(options: Mapping[str, Any]) -> dict[str, Any]:
    """An observer's options with `~` in its path replaced by the home folder."""
    paths = {name: options[name] for name in ("path", "folder") if isinstance(options.get(name), str)}
    return {**options, **{name: str(user_path(path)) for name, path in paths.items() if path.startswith("~")}}


def _with_options(entry: Entry, observer: object, options: Mapping[str, Any], where: str) -> object:
    """The observer with these options. Those of its options that are no defaults cannot be changed."""
    if not options:
        return observer
    if type(observer) is not entry.load():
        raise RecipeError(
            f"{where} has options, but an object of another class is given under that name. Leave one out."
        )
    own, wanted = options_of(observer), options_of(instance(entry, {**written_options(observer), **options}, where))
    defaults = {each.name: each.default for each in dataclasses.fields(entry.load())}
    for name in options:
        is_set = name in SET_BY_CALLER or own[name] != defaults[name]
        if own[name] != wanted[name] and is_set:
            raise RecipeError(
                f"{where}.{name} = {shown(options[name])} has no effect: this observer is set up with {own[name]!r}. "
                f"Leave {where}.{name} out."
            )
    changed = copy(observer)  # with whatever else the caller has set on it
    for name in options:
        object.__setattr__(changed, name, wanted[name])
    return changed


def refuse_single_places(observers: Mapping[str, object], what: str) -> None:
    """Raise `InputError` for observers that write to one `path`, where `what` makes several videos."""
    for name, observer in observers.items():
        if (path := options_of(observer).get("path")) is not None:
            raise InputError(
                f"The observer {name!r} writes one run, to {path}, and {what}. Give each video a folder of its own: "
                "record_to(FOLDER, per_run=True), or streamt1 generate --prompts."
            )


def rewards(recipe: Recipe, given: Given = NOTHING_GIVEN) -> tuple[BoundReward, ...]:
    """The rewards of a recipe, short horizon first; one object serves both where name and options agree."""
    from streamt1_plugins.evaluation.pool import BoundReward

    made: dict[str, Reward] = {}
    bound: list[BoundReward] = []
    for horizon in HORIZONS:
        for name, settings in getattr(recipe.rewards, horizon).items():
            key = f"{name} {settings.device} {settings.where!r} {sorted(settings.options.items())!r}"
            if key not in made:
                own = given.rewards.get(name)
                made[key] = own or reward(name, settings, f"rewards.{horizon}.{name}", recipe.origin.agreed)
            bound.append(BoundReward(horizon, name, settings, made[key]))
            bound[-1].check_horizon()
    return tuple(bound)


def reward(name: str, settings: RewardPart, where: str, trusted: bool = False) -> Reward:
    """One reward as the recipe has it, in this process or in another one; `where` stands in errors.

    trusted: whether the user agreed to everything that the recipe names.
    """
    if settings.where is None:
        from streamt1_plugins.api.reward import Reward

        entry = discovery().rewards[name]
        built = instance(entry, settings.options, where)
        if not isinstance(built, Reward):
            raise PluginError(f"{name!r} of {entry.origin} ({entry.path}) must derive from `streamt1_plugins.Reward`.")
        return built
    from streamt1_plugins.evaluation.remote.client import RemoteReward  # here: checking a recipe must not import torch

    return RemoteReward(name, settings.where, settings.options, trusted)


def adapter(recipe: Recipe) -> Adapter:
    """The adapter of a recipe that names one."""
    built: Adapter = instance(discovery().adapters[str(recipe.adapter.name)], recipe.adapter.options, "adapter")
    return built


def reward_sections(recipe: Recipe, given: Given = NOTHING_GIVEN) -> dict[str, Any]:
    """The recipe's `rewards` as data, with every option written out, so that no later default can change it.

    A reward in another environment keeps what the recipe has: its defaults are those of what is installed there.
    """
    data: dict[str, Any] = recipe.rewards.model_dump(mode="json")
    for horizon in HORIZONS:
        for name, settings in getattr(recipe.rewards, horizon).items():
            if settings.where is None:
                own = given.rewards.get(name)
                options = (
                    plain_options(own) if own else written_options(reward(name, settings, f"rewards.{horizon}.{name}"))
                )
                data[horizon][name]["options"] = options
    return data


def check_mixing(recipe: Recipe, given: Given = NOTHING_GIVEN) -> None:
    """Raise `RecipeError` for settings that the recipe's policies cannot use, and policies that do not go together.

    A policy declares what it does in class attributes: `compares_chunks`; `needs_search`, where a single candidate per
    chunk leaves it nothing to do; a selection `multiplies_width`, where a beam
    may branch several times as widely as the width policy wants; a width policy `counts_beams`, where it has to know.
    """
    built = policies(recipe, given)
    for kind, policy in built.items():
        named, remedy = f"{kind} {getattr(recipe, kind).name!r}", REMEDIES.get(kind, "")
        if getattr(policy, "needs_search", False) and not recipe.search.is_wide:
            raise RecipeError(f"{named} needs a search: set search.candidates or search.top_k above 1{remedy}.")
        if getattr(policy, "compares_chunks", False):
            refuse_incomparable(recipe.rewards, named, remedy)
    if getattr(built["selection"], "multiplies_width", False) and getattr(built["width"], "counts_beams", False):
        raise RecipeError(
            f"width: {recipe.width.name!r} counts beams, and with selection: {recipe.selection.name!r} a beam may "
            "stand for several, so a run would exceed its budget. Use width=fixed, width=funnel or selection=top_k."
        )


def refuse_incomparable(settings: RewardSettings, policy: str, remedy: str) -> None:
    """Raise `RecipeError` for calibrations that mean nothing across chunks where `policy` compares chunks."""
    for horizon in HORIZONS:
        for name, part in getattr(settings, horizon).items():
            if part.weight > 0 and not part.is_comparable:
                raise RecipeError(
                    f"rewards.{horizon}.{name}.calibration = {part.calibration!r} cannot be used with {policy}, which "
                    "compares the rewards of different chunks: `group` and `rank` only compare the candidates of one. "
                    f"Use none, running or fixed numbers{remedy}."
                )
