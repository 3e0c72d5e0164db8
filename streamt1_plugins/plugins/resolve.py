"""Which adapter drives a pipeline or a model, and the recipe with every default written out."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.config import load as recipes
from streamt1_plugins.config.merge import merged
from streamt1_plugins.config.schema import cannot_draft
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError, RecipeError, UnsupportedPipelineError, foreign_code, guess
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.plugins.given import NOTHING_GIVEN, Given
from streamt1_plugins.plugins.registry import hint, load_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.evaluation.pool import BoundReward
    from streamt1_plugins.plugins.registry import AdapterEntry

BUNDLED = "tinyworld-student"
"""The model used when the caller and the recipe name none: small, trained, inside the package."""


def model_folder(model: str) -> str:
    """The folder of a bundled model by its adapter's name; a folder or hub id as it is."""
    bundled = discovery().adapters.get(model)
    if not bundled or not bundled.model:
        return str(user_path(model)) if model.startswith("~") else model
    function = load_target(bundled.model, f"The model of {bundled.name!r} of {bundled.origin}")
    with foreign_code(f"The model of {bundled.name!r} of {bundled.origin}"):
        return str(function())


def resolve(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    model: str | None = None,
    *,
    adapter: str | None = None,
    overrides: Sequence[str] = (),
    given: Given = NOTHING_GIVEN,
) -> Recipe:
    """The recipe as `load` runs it: model and adapter decided, every option written out; no weights are loaded."""
    loaded = recipes.load(recipe, overrides)
    model = model or loaded.model or BUNDLED
    bundled = discovery().adapters.get(model)
    name = adapter or loaded.adapter.name or (bundled.name if bundled else None)
    if name is None:
        raise UnsupportedPipelineError(
            f"Which adapter drives {model!r}? Name it with adapter=... (command line: --adapter NAME). {_known()}"
        )
    return completed(loaded.model_copy(update={"model": model}), discovery().adapters[name], given)


def resolve_adapter(pipe: Any, name: str | None) -> AdapterEntry:
    """The adapter called `name`, or the only one that claims the pipeline's class."""
    adapters = discovery().adapters
    if isinstance(pipe, type):
        raise InputError(f"{pipe.__name__} is a class. Load a pipeline first: {pipe.__name__}.from_pretrained(...).")
    if isinstance(pipe, str | PathLike):
        raise InputError(
            f"{str(pipe)!r} is no pipeline. Load a model by its name: streamt1_plugins.load({str(pipe)!r})."
        )
    if name is not None:
        return adapters[name]
    classes = [kind.__name__ for kind in type(pipe).__mro__]
    claims = [entry for entry in adapters.values() if set(entry.pipelines) & set(classes)]
    sure = [entry for entry in claims if entry.explicit is None]
    if len(sure) == 1:
        return adapters[sure[0].name]  # an error where two plugins offer it
    if sure:
        rivals = ", ".join(f"{entry.name} ({entry.origin})" for entry in sure)
        raise UnsupportedPipelineError(f"Several adapters claim {classes[0]}: {rivals}. Choose one with adapter=...")
    if claims:
        offers = " or ".join(f"adapter={entry.name!r}" for entry in claims)
        raise UnsupportedPipelineError(f"{classes[0]}: {claims[0].explicit} If it fits, name it with {offers}.")
    raise UnsupportedPipelineError(f"No adapter drives {classes[0]}. {_known()}")


def _known() -> str:
    lines = [f"{e.name} ({', '.join(e.pipelines) or 'named only'})" for e in discovery().adapters.values()]
    return f"Adapters: {'; '.join(lines) or 'none installed'}.{hint(discovery().broken)}"


def completed(recipe: Recipe, entry: AdapterEntry, given: Given = NOTHING_GIVEN) -> Recipe:
    """The recipe with every default written out: with the `given` objects it reproduces the run."""
    data = recipe.to_data()
    options = build.written_options(build.instance(entry, recipe.adapter.options, "adapter"))
    data["adapter"] = {"name": entry.name, **options}
    policies = build.policies(recipe, given)
    check_routes(recipe.memory.name, policies["memory"], entry)
    for kind, policy in policies.items():
        if kind in given.policies:
            data[kind] = {"name": type(policy).__name__, **build.plain_options(policy)}
        else:
            data[kind] = {"name": getattr(recipe, kind).name, **build.written_options(policy)}
    if _takes_suggestions(recipe, policies["selection"], given):
        data["rewards"] = merged(_suggested(entry, recipe, given), data["rewards"], parts=())
    for name, reward in given.rewards.items():
        if not any(name in data["rewards"][horizon] for horizon in HORIZONS):
            for horizon in reward.horizons:
                data["rewards"][horizon][name] = {}
    loaded = recipes.load(data)
    data = loaded.to_data() | {"rewards": build.reward_sections(loaded, given)}
    data["rewards"]["replace"] = loaded.rewards.are_named or loaded.rewards.replace
    full = recipes.load(recipes.load(data))  # twice: options as YAML gives them back, lists instead of tuples
    build.check_mixing(full, given)
    reason = entry.capabilities.refusals.get("early_pruning") if entry.capabilities else None
    if reason and full.early.steps and full.search.is_wide:
        raise cannot_draft(entry.name, reason)
    check_predictions(full, given, entry)
    return full.traced(recipe.origin)


def check_predictions(recipe: Recipe, given: Given, entry: AdapterEntry) -> None:
    """Raise `RecipeError` for rewards that judge with a video model that refuses to predict."""
    reason = entry.capabilities.refusals.get("predictions") if entry.capabilities else None
    for bound in build.rewards(recipe, given) if reason else ():
        if bound.denoiser_calls:
            raise cannot_predict(bound, entry.name, reason)


def cannot_predict(bound: BoundReward, adapter: str | None, reason: str | None) -> RecipeError:
    """The error for a reward that needs the model's predictions, which the adapter does not offer for this `reason`."""
    entries = discovery().adapters.items()
    able = [name for name, each in entries if each.capabilities and "predictions" not in each.capabilities.refusals]
    return RecipeError(
        f"rewards.{bound.horizon}.{bound.name}: {bound.name!r} judges with the video model itself, and the adapter "
        f"{adapter!r} cannot run it on given latents: {reason}. Adapters that can: {', '.join(sorted(able))}. Name "
        "another reward."
    )


def check_routes(name: str, policy: object, entry: AdapterEntry) -> None:
    """Raise `RecipeError` where a memory policy answers with routes that the adapter's memory does not have.

    A policy declares them in an attribute `routes`; without it, the first unknown answer ends the run.
    """
    known = entry.capabilities.routes if entry.capabilities else frozenset()
    for route in sorted(frozenset(getattr(policy, "routes", ())) - known) if known else ():
        raise RecipeError(
            f"memory: {name!r} may answer with the route {route!r}, which the memory of adapter {entry.name!r} does "
            f"not have.{guess(route, known)} It has {', '.join(sorted(known))}."
        )


def _takes_suggestions(recipe: Recipe, selection: object, given: Given) -> bool:
    """Whether the rewards that the adapter suggests join those of the recipe: a plain run needs none, and neither does
    a selection that declares ``needs_rewards = False``.
    """
    is_complete = recipe.rewards.replace and (recipe.rewards.are_named or bool(given.rewards))
    return recipe.search.is_wide and getattr(selection, "needs_rewards", True) and not is_complete


def _suggested(entry: AdapterEntry, recipe: Recipe, given: Given) -> dict[str, Any]:
    """The rewards that the adapter's author suggests, as far as they can be joined with what the recipe has.

    Raises `RecipeError` where there would be no reward at all.
    """
    if not entry.rewards and not recipe.rewards.are_named and not given.rewards:
        known = ", ".join(discovery().rewards) or "none"
        raise RecipeError(
            f"The recipe searches but names no rewards, and the adapter {entry.name!r} suggests none. "
            f"Name at least one, for example -o rewards.long.basic={{}}. Known: {known}."
        )
    found: dict[str, Any] = {horizon: {} for horizon in HORIZONS}
    for horizon, named in (entry.rewards or {}).items():
        for name, settings in named.items():
            own = getattr(recipe.rewards, horizon).get(name)
            is_elsewhere = own is not None and own.where is not None  # its options are those of another environment
            if name not in given.rewards or horizon in given.rewards[name].horizons:
                found[horizon][name] = {key: settings[key] for key in settings if key != "options" or not is_elsewhere}
    return found
