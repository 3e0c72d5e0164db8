"""What is compared, written beside its rows as `comparison.json`: a folder never mixes rows that do not compare."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamt1_plugins.config.merge import flat
from streamt1_plugins.config.rewards import MOST, RewardPart
from streamt1_plugins.config.schedule import arguments
from streamt1_plugins.errors import InputError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.plugins.resolve import resolve
from streamt1_plugins.runs.events import versions
from streamt1_plugins.runs.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins.config.schedule import Scene
    from streamt1_plugins.config.schema import Recipe

CONDITIONS = "comparison.json"
ORACLE = re.compile(r"oracle(-[^@]*)?(@\d+)?")


@dataclass(frozen=True)
class Comparison:
    """What to compare: recipes by label, prompts, seeds, a judge (a reward by name), arguments of the calls.

    device: where the model and the judge run. A recipe called `oracle`, or `oracle-` and more, selects on the judge
    alone, whatever rewards it names: its score is what the same search can reach where its reward is right. The judge
    also scores every candidate of the recipe called `fitted`, for `compare.agreement`.
    scenes: of prompts that change, by what `prompts` has for them.
    """

    recipes: Mapping[str, Recipe]
    prompts: Sequence[str]
    seeds: Sequence[int]
    judge: str
    model: str | None = None
    call: Mapping[str, Any] | None = None
    allow_circular: bool = False
    device: str = "cpu"
    fitted: str | None = None
    scenes: Mapping[str, Sequence[Scene]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        judged = {name: self._judged(each) if self.is_oracle(name) else each for name, each in self.recipes.items()}
        object.__setattr__(self, "recipes", judged)

    @staticmethod
    def is_oracle(label: str) -> bool:
        """Whether a recipe of this name is an oracle, at any width."""
        return bool(ORACLE.fullmatch(label))

    def _judged(self, recipe: Recipe) -> Recipe:
        """The recipe with the judge as its only reward, on the whole video so far if it serves the long horizon."""
        judge = build.instance(discovery().rewards[self.judge], {}, "judge")
        horizon = "long" if "long" in judge.horizons else "short"
        only = {"replace": True, "short": {}, "long": {}, horizon: {self.judge: RewardPart()}}
        rewards = recipe.rewards.model_copy(update={**only, "window": MOST, "decode": "carried"})
        return recipe.model_copy(update={"rewards": rewards})

    def call_of(self, prompt: str) -> tuple[str, dict[str, Any]]:
        """(the prompt of the first scene, the other arguments) of the call that makes a video of `prompts`."""
        scenes = self.scenes.get(prompt, ())
        return scenes[0].prompt if scenes else prompt, {**(self.call or {}), **arguments(scenes)}

    def record_to(self, out: Path) -> None:
        """Write all that a row depends on except its prompt and seed to `out`, beside the recipes of earlier calls.

        Raises `InputError` where the rows of `out` come from another judge, model, call, type of device or recipe of
        the same name. A recipe's description is no condition, and neither are versions: each that was used is listed.
        """
        recipes = {name: each.model_dump(mode="json", exclude={"description"}) for name, each in self.recipes.items()}
        found = {"judge": self.judge, "model": self.model, "call": self.call or {}, "recipes": recipes}
        found["device"] = self.device.partition(":")[0]  # without its number: several may share the work
        new, path, made = json.loads(json.dumps(found)), out / CONDITIONS, {}
        if path.exists():
            recorded = {"device": "cpu", **json.loads(path.read_text(encoding="utf-8"))}
            made = recorded.pop("made_with", {})
            _check_same(recorded, new, out)
            new["recipes"] = recorded["recipes"] | new["recipes"]
        new["made_with"] = self._made_with(made)
        write_atomically(path, json.dumps(new, indent=1) + "\n")

    def _made_with(self, earlier: Mapping[str, Any]) -> dict[str, Any]:
        """What readers of the page want to know, beside what earlier calls have recorded of it."""
        first = resolve(next(iter(self.recipes.values())), self.model)
        described = {label: recipe.description for label, recipe in self.recipes.items()}
        known = list(earlier.get("versions", ()))
        return {
            "model": first.model,
            "adapter": first.adapter.name,
            "versions": known if versions() in known else [*known, versions()],
            "descriptions": {**earlier.get("descriptions", {}), **described},
        }


def _check_same(recorded: Mapping[str, Any], new: Mapping[str, Any], out: Path) -> None:
    """Raise `InputError` with the first difference; a recipe that only one of the two has is no difference."""
    both = recorded["recipes"].keys() & new["recipes"].keys()
    before, now = (
        flat({**each, "recipes": {name: each["recipes"][name] for name in both}}) for each in (recorded, new)
    )
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise InputError(
                f"{out} holds videos made with {key} = {before.get(key)!r}, and this call has {now.get(key)!r}. "
                "Use the same value, or another folder as --out."
            )
