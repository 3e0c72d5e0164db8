"""What a video of a complete recipe costs and what memory it takes, in words; no weights are loaded."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import foreign_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.adapter import Outline
    from streamt1_plugins.config.schedule import Scene
    from streamt1_plugins.config.schema import Recipe


def cost(recipe: Recipe, scenes: Sequence[Scene] = ()) -> str:
    """The counters of a run in a line, in two where the width policy decides for itself. scenes: of its prompt."""
    from streamt1_plugins.api.adapter import HasOutline, OutlinesScenes
    from streamt1_plugins.plugins import build
    from streamt1_plugins.search.cost_estimate import describe

    frames, policies, adapter = recipe.video.num_frames, build.policies(recipe), _adapter(recipe)
    if isinstance(adapter, HasOutline) and isinstance(adapter, OutlinesScenes) and scenes:
        adapter = _OfScenes(adapter, scenes, recipe)
    return describe(recipe, adapter, build.rewards(recipe), frames, policies=policies)


@dataclasses.dataclass(frozen=True)
class _OfScenes:
    """An adapter whose outlines are of calls with these scenes."""

    adapter: Any
    scenes: Sequence[Scene]
    recipe: Recipe

    def outline(self, num_frames: int | None = None) -> Outline:
        with_one_prompt = self.adapter.outline(num_frames)
        outline: Outline = self.adapter.with_scenes(with_one_prompt, self.scenes, self.recipe.sinks)
        return outline


def memory(recipe: Recipe) -> str:
    """The memory estimate in a line, or why there is none."""
    from streamt1_plugins.api.adapter import HasFootprint
    from streamt1_plugins.plugins import build
    from streamt1_plugins.plugins.resolve import model_folder
    from streamt1_plugins.policies.revision import limits_of, widening
    from streamt1_plugins.policies.width import widest
    from streamt1_plugins.search.memory_estimate import memory_plan, of_recipe, reward_bytes, with_past

    adapter = _adapter(recipe)
    if not isinstance(adapter, HasFootprint):
        return f"memory not known: the adapter {recipe.adapter.name!r} has no estimate"
    with foreign_code(f"The footprint of adapter {recipe.adapter.name!r}"):
        each = adapter.footprint(model_folder(str(recipe.model)), memory_plan(recipe), recipe.video.num_frames)
    if each is None:
        return f"memory not known: {recipe.model!r} is not on this machine, or not all of it"
    policies = build.policies(recipe)
    limits = limits_of(policies["revision"])
    width = widest(policies["width"], recipe.search) * widening(limits)
    found = of_recipe(recipe, each, width, rewards=reward_bytes(build.rewards(recipe)))
    return str(with_past(found, recipe, each, limits))


def _adapter(recipe: Recipe) -> Any:
    """The adapter, whose own defaults are the sizes of the recipe's video: estimates take no more than a length."""
    from streamt1_plugins.plugins import build

    adapter = build.adapter(recipe)
    known = build.options_of(adapter)
    sizes = {name: size for name, size in recipe.video.given.items() if name in known}
    return dataclasses.replace(adapter, **sizes) if sizes else adapter  # type: ignore[type-var]  # options: a dataclass
