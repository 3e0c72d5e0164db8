"""The rewards of a wrapped pipeline: bound to the recipe's horizons, names and settings, loaded and unloaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamt1_plugins.errors import InputError, RecipeError, foreign_code
from streamt1_plugins.placement import AUTO, checked

if TYPE_CHECKING:
    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Horizon
    from streamt1_plugins.config.rewards import RewardPart


@dataclass(frozen=True, eq=False)
class BoundReward:
    """A reward with the horizon, the name and the settings that a recipe gives it."""

    horizon: Horizon
    name: str
    settings: RewardPart
    reward: Reward

    def check_horizon(self) -> None:
        """Raise `RecipeError` where the reward does not serve the horizon; a remote one is known once it is loaded."""
        if self.horizon not in self.reward.horizons:
            served = ", ".join(self.reward.horizons)
            raise RecipeError(f"rewards.{self.horizon}.{self.name}: {self.name!r} serves only the horizons {served}.")

    def device(self, default: str) -> str:
        """Where the reward runs, `default` where the recipe leaves it open.

        Raises `RecipeError` for a device that this machine does not have; a server has devices of its own.
        """
        named = self.settings.device
        if named == AUTO or (self.settings.where is not None and self.settings.where.url is not None):
            return default
        return checked(named, f"rewards.{self.horizon}.{self.name}.device", RecipeError)


@dataclass
class RewardPool:
    """The rewards of one wrapped pipeline, shared by its runs. Each is loaded once, whatever the number of horizons.

    Methods raise `PluginError`, naming the reward, where its own code fails.
    """

    bound: tuple[BoundReward, ...]
    _loaded: dict[int, Reward] = field(default_factory=dict, repr=False)
    _run: Run | None = field(default=None, repr=False)

    def start(self, run: Run) -> None:
        """Load the rewards that stay on their device between chunks, and check that all can serve `run`.

        Raises `RecipeError` for a horizon that a reward does not serve, `InputError` where one lacks a prompt.
        """
        for bound in self.bound:
            bound.device(run.device)
        for bound in self.bound:
            if not bound.settings.offload:
                self.load(bound, run.device)
            bound.check_horizon()
            if bound.reward.needs_prompt and not run.prompt.strip():
                raise InputError(
                    f"Reward {bound.name!r} judges by the prompt, and the prompt is empty. Give one, or leave it out."
                )
            if not bound.reward.deterministic:
                run.tree.note(f"Reward {bound.name!r} is not deterministic: the same seed may give another video.")
        self.serve(run)

    def serve(self, run: Run) -> None:
        """Reset the rewards where the last run was another one: the same frame keys then name other pixels."""
        if self._run is not run:
            self._run = run
            for bound in self.bound:
                with foreign_code(f"Resetting reward {bound.name!r}"):
                    bound.reward.reset()

    def load(self, bound: BoundReward, device: str) -> None:
        """Bring a reward to its own device, or to `device` where the recipe leaves it open; once."""
        if id(bound.reward) not in self._loaded:
            with foreign_code(f"Loading reward {bound.name!r}"):
                bound.reward.load(bound.device(device))
            self._loaded[id(bound.reward)] = bound.reward

    def offload(self) -> None:
        """Take rewards with `offload: true` off the device until they are used again."""
        for bound in self.bound:
            if bound.settings.offload and self._loaded.pop(id(bound.reward), None) is not None:
                with foreign_code(f"Offloading reward {bound.name!r}"):
                    bound.reward.offload()

    def finish(self) -> None:
        """Free the rewards with `unload: true` when a run ends."""
        for bound in self.bound:
            if bound.settings.unload and self._loaded.pop(id(bound.reward), None) is not None:
                with foreign_code(f"Unloading reward {bound.name!r}"):
                    bound.reward.unload()
        self._run = None
