"""Parts: options are dataclass fields; wrong ones are named where they stand in the recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from streamt1_plugins.config.load import load
from streamt1_plugins.errors import PluginError, RecipeError, UnknownNameError
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.registry import Entry
from streamt1_plugins.plugins.resolve import resolve
from streamt1_plugins.policies.noise import Propagate

if TYPE_CHECKING:
    from somewhere import Missing

PROPAGATE = Entry("propagate", "streamt1_plugins.policies.noise:Propagate", "streamt1-plugins")


def propagate(**options: Any) -> Any:
    return build.instance(PROPAGATE, options, "noise")


def test_options_are_the_fields_with_their_types() -> None:
    assert propagate(sigma=1, seeds="release") == Propagate(1.0, "release", "cpu")
    assert build.options_of(propagate(sigma=0.5)) == {
        "sigma": 0.5,
        "seeds": "fresh",
        "device": "cpu",
        "draws": "initial",
    }


def test_an_unknown_option_gets_a_guess_and_the_known_ones() -> None:
    message = "noise: 'propagate' has no option 'sigm'. Did you mean 'sigma'? Its options: sigma, seeds, device, draws."
    with pytest.raises(RecipeError, match=re.escape(message)):
        propagate(sigm=1)


@dataclass
class Bare:
    """Nothing to set."""


def test_a_part_without_options_says_so() -> None:
    entry = Entry("bare", "tests.plugins.test_build:Bare", "acme")
    with pytest.raises(RecipeError, match=r"'bare' has no option 'k'\. Its options: none\."):
        build.instance(entry, {"k": 3}, "selection")


@pytest.mark.parametrize(("options", "where"), [({"sigma": 1.5}, "sigma = 1.5"), ({"seeds": "old"}, "seeds = 'old'")])
def test_a_bad_value_is_named_with_its_place(options: dict[str, Any], where: str) -> None:
    with pytest.raises(RecipeError, match=rf"noise \(propagate\): {where}: Input should be"):
        propagate(**options)


def test_a_missing_option_is_named() -> None:
    with pytest.raises(RecipeError, match=r"observers\.folder \(folder\): path .*(required|missing)"):
        build.observers(load({"observers": {"folder": {}}}))


def test_a_part_that_is_no_dataclass_is_its_authors_fault() -> None:
    entry = Entry("odd", "collections:Counter", "acme")
    with pytest.raises(PluginError, match=r"'odd' of acme \(collections:Counter\) must be a dataclass"):
        build.instance(entry, {}, "noise")


@dataclass
class Unreadable:
    option: Missing | None = None


def test_a_part_whose_types_cannot_be_read_is_its_authors_fault() -> None:
    entry = Entry("odd", "tests.plugins.test_build:Unreadable", "acme")
    with pytest.raises(PluginError, match=r"options of 'odd' of acme failed: .*not fully defined"):
        build.instance(entry, {}, "noise")


@pytest.mark.parametrize("section", ["width", "noise", "scoring", "revision", "selection", "memory"])
def test_an_unknown_policy_is_named_by_kind(section: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"Unknown {section} policy 'nope'\..* Known: "):
        build.policies(load({section: "nope"}))


def test_an_unknown_observer_gets_a_guess() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown observer 'konsole'\. Did you mean 'console'"):
        build.observers(load({"observers": {"konsole": {}}}))


def test_an_unknown_reward_gets_a_guess() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown reward 'brigt'\. Did you mean 'bright'"):
        build.rewards(load({"rewards": {"short": {"brigt": {}}}}))


def test_missing_imports_give_the_install_command() -> None:
    with pytest.raises(PluginError, match=re.escape("pip install 'streamt1-plugins[none]'")):
        build.rewards(load({"rewards": {"short": {"needs-extra": {}}}}))


def test_a_horizon_a_reward_does_not_serve_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"rewards\.long\.short-only: 'short-only' serves only the horizons short\."):
        build.rewards(load({"rewards": {"long": {"short-only": {}}}}))
    assert build.rewards(load({"rewards": {"short": {"short-only": {}}}}))


@pytest.mark.parametrize(
    ("part", "otherwise"),
    [
        ("width={name: budget, forwards: 99}", "width=fixed"),
        ("revision=refine", "revision=none"),
        ("revision=backtrack", "revision=none"),
    ],
)
def test_what_needs_a_search_is_refused_without_one(part: str, otherwise: str) -> None:
    said = rf"needs a search: set search\.candidates or search\.top_k above 1, or {otherwise}\."
    with pytest.raises(RecipeError, match=said):
        resolve("plain", "toy", overrides=[part])
    assert resolve("stream-t1", "toy", overrides=[part])


def rewards(short: dict[str, Any], long: dict[str, Any]) -> tuple[Any, Any]:
    settings = {"short": {"picky": {"options": short}}, "long": {"picky": {"options": long}}}
    short_one, long_one = build.rewards(load({"rewards": settings}))
    return short_one.reward, long_one.reward


def test_one_object_serves_both_horizons_when_options_agree() -> None:
    short, long = rewards({"chunk": 2, "how": "nan"}, {"how": "nan", "chunk": 2})
    assert short is long
    short, long = rewards({"chunk": 2}, {"chunk": 3})
    assert (short.chunk, long.chunk) == (2, 3)
