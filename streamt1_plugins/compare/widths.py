"""Recipes with more or fewer candidates per chunk, and recipes widened to the same transformer forwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamt1_plugins.config.schema import Recipe

    CountForwards = Callable[[Recipe], int]
    """Returns the transformer forwards of one video under a recipe."""


def width(recipe: Recipe) -> int:
    """Candidates per chunk."""
    return recipe.search.candidates * recipe.search.top_k


def resized(recipe: Recipe, wanted: int) -> Recipe:
    """The recipe with `wanted` candidates per chunk.

    With one candidate per beam (best-of-N over whole videos) the beams change. Otherwise the number of beams stays
    where it divides the width and leaves each beam two candidates; else the next smaller number that does is taken.
    """
    if recipe.search.candidates == 1:
        return recipe.sized(candidates=1, top_k=wanted)
    fitting = [k for k in range(1, recipe.search.top_k + 1) if wanted % k == 0 and wanted // k >= min(2, wanted)]
    return recipe.sized(candidates=wanted // max(fitting), top_k=max(fitting))


def at_widths(recipes: Mapping[str, Recipe], widths: Sequence[int]) -> dict[str, Recipe]:
    """Each recipe that searches at each width, as ``name@width``; the others unchanged."""
    found: dict[str, Recipe] = {}
    for label, recipe in recipes.items():
        if recipe.search.is_wide:
            found |= {f"{label}@{each}": resized(recipe, each) for each in widths}
        else:
            found[label] = recipe
    return found


def matched(recipes: Mapping[str, Recipe], count: CountForwards) -> dict[str, Recipe]:
    """The recipes, those that search widened to the forwards of the most expensive one.

    A recipe is widened until it reaches that budget, unless the last step exceeds it by more than one candidate.
    Recipes that change are called ``name@width``.
    """
    searching = {label: recipe for label, recipe in recipes.items() if recipe.search.is_wide}
    budget = max((count(recipe) for recipe in searching.values()), default=0)
    found: dict[str, Recipe] = {}
    for label, recipe in recipes.items():
        sized = grown(recipe, budget, count) if label in searching else recipe
        found[label if sized == recipe else f"{label}@{width(sized)}"] = sized
    return found


def grown(recipe: Recipe, budget: int, count: CountForwards) -> Recipe:
    """The recipe with more candidates per beam, or more whole videos, up to `budget` forwards per video.

    The last step may exceed the budget by the forwards of one candidate.
    """
    while (spent := count(recipe)) < budget:
        # Forwards hardly grow faster than the width, so this jump stops short of the budget; single steps do the rest.
        size = recipe.search.top_k if recipe.search.candidates == 1 else recipe.search.candidates
        jump = int((budget - spent) / spent * size)
        wider = (_stepped(recipe, steps) for steps in dict.fromkeys((max(1, jump), 1)))
        fitting = (each for each in wider if spent < (more := count(each)) <= budget + more / width(each))
        if (found := next(fitting, None)) is None:
            break
        recipe = found
    return recipe


def _stepped(recipe: Recipe, steps: int) -> Recipe:
    if recipe.search.candidates == 1:
        return recipe.sized(top_k=recipe.search.top_k + steps)
    return recipe.sized(candidates=recipe.search.candidates + steps)
