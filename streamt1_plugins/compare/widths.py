"""Widths: a recipe with more or fewer candidates per chunk, and recipes sized to the same transformer forwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from streamt1_plugins.config.schema import Recipe

    Measure = Callable[[Recipe], int]
    """Transformer forwards of one video under a recipe."""


def width(recipe: Recipe) -> int:
    """Candidates per chunk."""
    return recipe.search.candidates * recipe.search.top_k


def resized(recipe: Recipe, wanted: int) -> Recipe:
    """The recipe with `wanted` candidates per chunk.

    Whole videos (one candidate per beam) stay whole videos. Otherwise as many beams survive as before, where that
    divides the width and leaves two candidates to each beam; else as many as it does.
    """
    if recipe.search.candidates == 1:
        return _sized(recipe, 1, wanted)
    fitting = [k for k in range(1, recipe.search.top_k + 1) if wanted % k == 0 and wanted // k >= min(2, wanted)]
    return _sized(recipe, wanted // max(fitting), max(fitting))


def several(recipes: Mapping[str, Recipe], widths: Sequence[int]) -> dict[str, Recipe]:
    """Each searching recipe at each width, as ``name@width``; one that does not search has only its own."""
    found: dict[str, Recipe] = {}
    for label, recipe in recipes.items():
        if recipe.search.is_wide:
            found |= {f"{label}@{each}": resized(recipe, each) for each in widths}
        else:
            found[label] = recipe
    return found


def matched(recipes: Mapping[str, Recipe], measure: Measure) -> dict[str, Recipe]:
    """The searching recipes, each as wide as the forwards of the most expensive one allow.

    A recipe grows until it reaches that budget, so a rival never has less than it could have; where the last step
    exceeds the budget by more than one candidate, that step is not taken. Those that changed are ``name@width``.
    """
    searching = {label: recipe for label, recipe in recipes.items() if recipe.search.is_wide}
    budget = max((measure(recipe) for recipe in searching.values()), default=0)
    found: dict[str, Recipe] = {}
    for label, recipe in recipes.items():
        sized = grown(recipe, budget, measure) if label in searching else recipe
        found[label if sized == recipe else f"{label}@{width(sized)}"] = sized
    return found


def grown(recipe: Recipe, budget: int, measure: Measure) -> Recipe:
    """The recipe with more candidates per beam, or more whole videos, up to `budget` forwards per video."""
    while (spent := measure(recipe)) < budget:
        # Forwards hardly grow faster than the width, so this jump stops short of the budget; single steps do the rest.
        jump = int((budget - spent) / spent * _knob(recipe))
        wider = next(
            (each for each in _wider(recipe, jump) if spent < measure(each) <= _limit(each, budget, measure)), None
        )
        if wider is None:
            break
        recipe = wider
    return recipe


def _limit(recipe: Recipe, budget: int, measure: Measure) -> float:
    """The budget and one candidate more."""
    return budget + measure(recipe) / width(recipe)


def _wider(recipe: Recipe, jump: int) -> Iterator[Recipe]:
    return (_stepped(recipe, steps) for steps in dict.fromkeys((max(1, jump), 1)))


def _knob(recipe: Recipe) -> int:
    return recipe.search.top_k if recipe.search.candidates == 1 else recipe.search.candidates


def _stepped(recipe: Recipe, steps: int) -> Recipe:
    if recipe.search.candidates == 1:
        return _sized(recipe, 1, recipe.search.top_k + steps)
    return _sized(recipe, recipe.search.candidates + steps, recipe.search.top_k)


def _sized(recipe: Recipe, candidates: int, top_k: int) -> Recipe:
    search = recipe.search.model_copy(update={"candidates": candidates, "top_k": top_k})
    return recipe.model_copy(update={"search": search})
