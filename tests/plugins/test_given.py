"""Rewards and policies as objects: no package is needed to try one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError, RecipeError, UnknownNameError
from tests.toy import Bright, ToyPipeline


@dataclass
class Dark(Bright):
    strength: float = 2.0
    callback: Any = field(default=print)

    def score(self, inp: Any) -> streamt1.RewardOutput:
        return streamt1.RewardOutput(-self.strength * super().score(inp).scores)


@dataclass
class First:
    """Keeps the first candidates."""

    count: int = 1

    @streamt1.hookimpl
    def streamt1_select(self, candidates: Any) -> Any:
        return candidates[: self.count]


@pytest.mark.parametrize(("replace", "names"), [("true", ["dark"]), ("false", ["bright", "dark"])])
def test_a_reward_counts_on_every_horizon_it_serves_beside_the_suggested_ones_or_alone(
    replace: str, names: list[str]
) -> None:
    pipe = streamt1.wrap(ToyPipeline(), overrides=[f"rewards.replace={replace}"], rewards={"dark": Dark()})
    pipe("a prompt")
    assert {(horizon, name) for node in pipe.tree for horizon, found in node.readings.items() for name in found} == {
        (horizon, name) for horizon in ("short", "long") for name in names
    }
    assert pipe.recipe.rewards.long["dark"].options == {"calls": [], "strength": 2.0}, "what JSON can hold is recorded"


@dataclass
class LongOnly(Dark):
    horizons: ClassVar[tuple[str, ...]] = ("long",)


def test_an_object_with_the_name_of_a_suggested_reward_takes_its_place_where_it_serves() -> None:
    pipe = streamt1.wrap(ToyPipeline(), rewards={"bright": LongOnly()})
    assert (list(pipe.recipe.rewards.short), list(pipe.recipe.rewards.long)) == ([], ["bright"])
    assert pipe.recipe.rewards.long["bright"].options["strength"] == 2.0


def test_the_recipes_settings_of_that_name_apply() -> None:
    settings = ["rewards.long.dark.weight=0.5", "rewards.short.bright={}"]
    pipe = streamt1.wrap(ToyPipeline(), overrides=settings, rewards={"dark": Dark()})
    pipe("a prompt")
    assert set(pipe.tree.chunk(0)[0].readings["short"]) == {"bright"}, "named on one horizon, it is on that alone"
    assert pipe.tree.chunk(0)[0].readings["long"]["dark"].weight == 0.5


def test_a_policy_takes_the_place_of_the_recipes() -> None:
    pipe = streamt1.wrap(ToyPipeline(), policies={"selection": First(2)})
    pipe("a prompt")
    assert all([node.ordinal for node in pipe.tree.chunk(i) if node.fate == "kept"] == [0, 1] for i in range(4))
    assert pipe.recipe.selection.model_dump() == {"name": "First", "count": 2}


def test_what_is_no_reward_or_no_kind_of_policy_is_an_error() -> None:
    with pytest.raises(InputError, match=r"rewards\['dark'\] must be a `Reward` object.*Create one: add parentheses"):
        streamt1.wrap(ToyPipeline(), rewards={"dark": Dark})  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"unknown kind 'selektion'. Did you mean 'selection'\?"):
        streamt1.wrap(ToyPipeline(), policies={"selektion": First()})  # type: ignore[dict-item]


def test_a_run_with_objects_is_resumed_and_replayed_with_them(tmp_path: Path) -> None:
    """The recorded recipe names them; the wrapped pipeline that has them is passed again."""
    given: Any = {"rewards": {"dark": Dark()}, "policies": {"selection": First(2)}}
    whole = streamt1.wrap(ToyPipeline(), **given)("a prompt")
    pipe = streamt1.wrap(ToyPipeline(), **given, observers=streamt1.record_to(tmp_path))
    with pytest.raises(RuntimeError):
        pipe("a prompt", fail_at=2)
    with pytest.raises(UnknownNameError):
        streamt1.resume(tmp_path, ToyPipeline(), fail_at=None)
    assert torch.equal(streamt1.resume(tmp_path, pipe, fail_at=None), whole)
    assert torch.equal(streamt1.regenerate(tmp_path, pipe=pipe, fail_at=None), whole)


# What is no plugin.


class Empty:
    """No hook."""


WRONG = [
    ({"observers": ["console"]}, r"`observers` maps names to objects, got \['console'\]\. Write .*'console': {}"),
    ({"observers": ["consoles"]}, r"Did you mean 'console'\?"),
    ({"observers": "console"}, r"got 'console'\. Write observers={'console': {}}"),
    ({"observers": Empty()}, r"`observers` maps names to objects"),
    ({"observers": {"consoles": {}}}, r"Unknown observer 'consoles'\. Did you mean 'console'"),
    ({"observers": {"console": {"plane": True}}}, r"has no option 'plane'\. Did you mean 'plain'"),
    ({"observers": {"mine": Empty()}}, r"observers\['mine'\] must be an object with methods that are decorated"),
    ({"observers": {"mine": Empty}}, r"Create one: add parentheses"),
    ({"observers": {"mine": None}}, r"observers\['mine'\] must be"),
    ({"observers": {3: Empty()}}, r"maps names to objects, got 3"),
    ({"rewards": [Dark()]}, r"`rewards` maps names to objects, got .* Write rewards={"),
    ({"rewards": Dark()}, r"`rewards` maps names to objects"),
    ({"rewards": {"bright": 0.5}}, r"must be a `Reward` object, got 0\.5\. The settings of a registered one"),
    ({"policies": [First()]}, r"`policies` maps names to objects"),
    ({"policies": {"noise": "fresh"}}, r'overrides=\["noise=fresh"\]'),
    ({"policies": {"selection": First}}, r"a method `streamt1_select` .*add parentheses"),
    ({"policies": {"noise": First()}}, r"a method `streamt1_propose_noise`"),
    ({"adapter": 3}, r"`adapter` is the name of a registered adapter"),
    ({"trust": "yes"}, r"`trust` is True, False or a recipe"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_is_no_plugin_is_refused_with_what_to_write(given: dict[str, Any], message: str) -> None:
    with pytest.raises((InputError, UnknownNameError, RecipeError), match=message):
        streamt1.wrap(ToyPipeline(), **given)


@pytest.mark.parametrize(
    ("pipe", "message"),
    [("tinyworld", r"streamt1_plugins\.load\('tinyworld'\)"), (ToyPipeline, r"ToyPipeline\.from_pretrained")],
)
def test_what_is_no_pipeline_is_refused_with_what_to_write(pipe: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        streamt1.wrap(pipe)


def test_a_registered_observer_is_named_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    streamt1.wrap(ToyPipeline(), observers={"console": {"plain": True}})("a prompt")
    assert capsys.readouterr().err.count("chunk ") == 4
