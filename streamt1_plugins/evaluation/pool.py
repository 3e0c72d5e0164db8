"""The rewards of a wrapped pipeline: bound to the recipe's horizons, names and settings, loaded and unloaded."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.errors import InputError, PluginError, RecipeError, TrustError, foreign_code, shown
from streamt1_plugins.process.placement import AUTO, checked
from streamt1_plugins.process.state import process_kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.api.reward import Reward
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Horizon
    from streamt1_plugins.config.rewards import RewardPart
    from streamt1_plugins.process.state import Changes


@dataclass(frozen=True, eq=False)
class BoundReward:
    """A reward with the horizon, the name and the settings that a recipe gives it."""

    horizon: Horizon
    name: str
    settings: RewardPart
    reward: Reward

    def check_horizon(self) -> None:
        """Raise `RecipeError` where the reward does not serve the horizon; a remote one is known once it is loaded.

        Raises `PluginError` where the reward declares what cannot be obeyed.
        """
        for problem in problems(self.reward):
            raise PluginError(f"Reward {self.name!r} declares {problem}.")
        if self.horizon not in self.reward.horizons:
            served = ", ".join(self.reward.horizons)
            raise RecipeError(f"rewards.{self.horizon}.{self.name}: {self.name!r} serves only the horizons {served}.")

    @property
    def denoiser_calls(self) -> int:
        """Predictions by the video model that the score of one candidate takes."""
        with foreign_code(f"Reading denoiser_calls of reward {self.name!r}"):
            calls = self.reward.denoiser_calls()
        if not isinstance(calls, int) or calls < 0:
            raise PluginError(
                f"Reward {self.name!r}: denoiser_calls() gave {shown(calls)}, expected a number of calls."
            )
        return calls

    def device(self, default: str) -> str:
        """Where the reward runs, `default` where the recipe leaves it open.

        Raises `RecipeError` for a device that this machine does not have; a server has devices of its own.
        """
        named = self.settings.device
        if named == AUTO or (self.settings.where is not None and self.settings.where.url is not None):
            return default
        return checked(named, f"rewards.{self.horizon}.{self.name}.device", RecipeError)


def problems(reward: Reward) -> Iterator[str]:
    """The declarations of a reward that a run cannot obey, each with what it has to be."""
    for name, (is_right, form) in DECLARATIONS.items():
        with foreign_code(f"Reading {name} of a reward"):
            value = getattr(reward, name)
            right = is_right(value)
        if not right:
            yield f"{name} = {shown(value)}, expected {form}"


def _are_horizons(value: object) -> bool:
    return isinstance(value, Collection) and not isinstance(value, str) and all(each in HORIZONS for each in value)


DECLARATIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "horizons": (_are_horizons, "a tuple of 'short', 'long' or both"),
    "needs_prompt": (lambda value: isinstance(value, bool), "True or False"),
    "batch_limit": (lambda value: value is None or (isinstance(value, int) and value > 0), "None or a number above 0"),
    "batch_exact": (lambda value: isinstance(value, bool), "True or False"),
    "lead_frames": (lambda value: isinstance(value, int) and value >= 0, "a number of frames"),
    "deterministic": (lambda value: isinstance(value, bool), "True or False"),
}


def note_changes(run: Run, source: str, changes: Changes) -> None:
    """Note in the tree what a reward changed in the process."""
    for name in changes.settings:
        run.tree.note(f"{source} changed {name}, which was put back.")


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
                self.load(bound, run)
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
                self._call(bound, run, "Resetting", bound.reward.reset)

    def load(self, bound: BoundReward, run: Run) -> None:
        """Bring a reward to its own device, or to the run's where the recipe leaves it open; once."""
        if id(bound.reward) not in self._loaded:
            self._call(bound, run, "Loading", lambda: bound.reward.load(bound.device(run.device)))
            self._loaded[id(bound.reward)] = bound.reward

    def offload(self) -> None:
        """Take rewards with `offload: true` off the device until they are used again."""
        for bound in self.bound:
            if bound.settings.offload and self._loaded.pop(id(bound.reward), None) is not None:
                self._release(bound, "Offloading", bound.reward.offload)

    def finish(self, error: BaseException | None = None) -> None:
        """Free what rewards remember of a run when it ends, well when `error` is None, and those with `unload: true`.

        Raises the first failure of a reward with ``on_error: raise``, once all are freed; after an `error`, none.
        """
        failures: list[PluginError] = []
        for bound in self.bound:
            steps = []
            if bound.settings.where is None:  # a server may be gone, or at work for other runs
                steps.append(("Resetting", bound.reward.reset))
            if bound.settings.unload and self._loaded.pop(id(bound.reward), None) is not None:
                steps.append(("Unloading", bound.reward.unload))
            for doing, work in steps:
                try:
                    self._release(bound, doing, work)
                except PluginError as failure:
                    failures.append(failure)
        self._run = None
        if failures and error is None:
            raise failures[0]

    def _release(self, bound: BoundReward, doing: str, work: Callable[[], None]) -> None:
        """Free a reward. The scores are there: a failure is noted, and ends the run only with ``on_error: raise``."""
        run = self._run
        if run is not None:
            try:
                self._call(bound, run, doing, work)
            except PluginError as error:
                run.tree.note(str(error))
                if bound.settings.on_error == "raise":
                    raise

    def _call(self, bound: BoundReward, run: Run, doing: str, work: Callable[[], None]) -> None:
        source = f"{doing} reward {bound.name!r}"
        with process_kept() as changes, foreign_code(source, passes=(PluginError, TrustError)):
            work()
        note_changes(run, source, changes)
