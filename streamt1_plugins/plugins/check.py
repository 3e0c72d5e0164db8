"""Everything that can be checked before a model is loaded: parts, places of rewards, lengths, prompts.

`generate`, `compare` and `recipes validate` check with the same functions, so what one accepts the others make.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.adapter import HasCheck, HasOutline
from streamt1_plugins.api.scenes import check_scenes, scenes_of
from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.config.schema import LONGEST as LONGEST  # what checks of calls go by
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError, RecipeError, foreign_code
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.plugins.resolve import model_folder
from streamt1_plugins.plugins.scenes import check_adapter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streamt1_plugins.api.adapter import Adapter
    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.scenes import Scene
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.evaluation.pool import BoundReward


@dataclass(frozen=True)
class Checked:
    """A complete recipe whose parts have been built once, for checks of calls. Methods raise what a run would raise."""

    recipe: Recipe
    adapter: Adapter
    rewards: tuple[BoundReward, ...]
    added: Mapping[str, object]
    """The observers that the recipe adds to those of the command."""

    @classmethod
    def of(cls, recipe: Recipe, observers: Mapping[str, object]) -> Checked:
        """Build every part, and look for the interpreters of rewards. Raises `RecipeError` or `UnknownNameError`.

        observers: those that the command adds, whose options the recipe may name too.
        """
        build.policies(recipe)
        added = {name: each for name, each in build.observers(recipe, observers).items() if name not in observers}
        interpreters(recipe)
        return cls(recipe, build.adapter(recipe), build.rewards(recipe), added)

    def call(self, call: Mapping[str, Any]) -> None:
        """Raise `InputError` for arguments that the model cannot use: a length, a size, a prompt.

        Sizes that the call leaves out are those of the recipe.
        """
        call = {**self.recipe.video.given, **call}
        num_frames = call.get("num_frames")
        if num_frames is not None and not 1 <= num_frames <= LONGEST:
            raise InputError(f"`num_frames` = {num_frames}: a video has 1 to {LONGEST:,} frames.")
        with foreign_code(f"The check of a call by adapter {self.recipe.adapter.name!r}"):
            if isinstance(self.adapter, HasCheck):
                self.adapter.check(model_folder(str(self.recipe.model)), call)
            elif isinstance(self.adapter, HasOutline):
                self.adapter.outline(num_frames)

    def prompt(self, prompt: str, call: Mapping[str, Any]) -> None:
        """Raise `InputError` for a prompt, or a schedule, that the model or a reward cannot read."""
        scenes = self._scenes(prompt, call)
        for each in [scene.prompt for scene in scenes] or [prompt]:
            readable(each, ((bound.name, bound.reward) for bound in self.rewards))
        if isinstance(self.adapter, HasCheck):
            self.call({**call, "prompt": prompt})

    def _scenes(self, prompt: str, call: Mapping[str, Any]) -> tuple[Scene, ...]:
        """The scenes of a call, which begin inside the video as far as that is known; none without a schedule."""
        if not call.get("schedule"):
            return ()
        check_adapter(str(self.recipe.adapter.name))
        scenes = scenes_of(call["schedule"], prompt)
        if isinstance(self.adapter, HasOutline):
            num_frames = {**self.recipe.video.given, **call}.get("num_frames")
            with foreign_code(f"The outline of a call by adapter {self.recipe.adapter.name!r}"):
                chunks = len(self.adapter.outline(num_frames).generate)
            check_scenes(scenes, chunks)
        return scenes


def readable(prompt: str, rewards: Iterable[tuple[str, Reward]]) -> None:
    """Raise `InputError`, which names the reward, for a prompt that a reward cannot read."""
    for name, reward in rewards:
        with foreign_code(f"The check of a prompt by reward {name!r}"):
            try:
                reward.check_prompt(prompt)
            except InputError as error:
                raise InputError(f"Reward {name!r} cannot read this prompt: {error}") from error


def elsewhere(recipe: Recipe) -> list[str]:
    """Check the rewards that run in another place, which is started or contacted; returns what was not checked.

    Not checked is a place that the user has not agreed to. Raises an error for a place without the reward, and for
    options that the reward there does not have.
    """
    from streamt1_plugins.evaluation.remote.check import check_place
    from streamt1_plugins.plugins.acting import waiting

    closed = {act.place[:3] for act in waiting(recipe)}
    left: list[str] = []
    for horizon in HORIZONS:
        for name, settings in getattr(recipe.rewards, horizon).items():
            if settings.where is None:
                continue
            if ("rewards", horizon, name) in closed:
                _check_here(name, settings.options, f"rewards.{horizon}.{name}")
                left.append(f"not checked without --trust: rewards.{horizon}.{name}, which runs elsewhere")
            else:
                check_place(name, settings, recipe.origin.agreed)
    return left


def _check_here(name: str, options: Mapping[str, Any], where: str) -> None:
    """Raise `RecipeError` for options of a reward in another place that the one of that name here does not have."""
    entry = discovery().rewards.get(name)
    try:
        if entry is not None:
            build.instance(entry, options, where)
    except RecipeError as error:
        raise RecipeError(f"{error} That is the one installed here; check the other place with --trust.") from error


def interpreters(recipe: Recipe) -> None:
    """Raise `RecipeError` where a reward is to run in an interpreter that is not there."""
    for horizon in HORIZONS:
        for name, settings in getattr(recipe.rewards, horizon).items():
            python = settings.where.python if settings.where else None
            if python is not None and shutil.which(user_path(python)) is None:
                raise RecipeError(
                    f"rewards.{horizon}.{name}.where: {python!r} is no program that can be started here. Name the "
                    "interpreter of an environment, such as /path/to/env/bin/python."
                )
