"""Advice: plain words, and a recipe that the loader accepts and that is never worse than the default."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins.compare.stats import Interval
from streamt1_plugins.config import load as recipes
from streamt1_plugins.probe.advice import PROBED, advise, growing
from streamt1_plugins.probe.run import Probed, probe_model
from tests.probe.models import Model, Quality, wrapped
from tests.probe.trial import differences, plain

PROBED_PROMPTS = [f"probed {index}" for index in range(10)]

MODELS: dict[str, tuple[Model, dict[str, Any]]] = {
    "noise that stays good": (Model(shares=(0.02, 0.98)), {}),
    "sinks that help, noise that does not stay good": (Model(turning=True, anchor=1.0), {}),
    "a reward that reads its own error": (Model(), {"blind": Quality(weight=0, error=1.0)}),
    "choices that last": (Model(turning=True, carry=0.6, routed=False), {}),
}


@cache
def probed(name: str) -> Probed:
    model, rewards = MODELS[name]
    return probe_model(wrapped(model, **rewards), PROBED_PROMPTS)


@pytest.mark.parametrize("name", MODELS)
def test_followed_blindly_it_is_not_worse_than_the_default_and_gains_what_it_promised(name: str) -> None:
    """On prompts that the probe did not see; quality is the true one, which no recipe reads exactly."""
    model, rewards = MODELS[name]
    found = probed(name)
    assert differences(model, found.recipe, "stream-t1", **rewards).high >= 0
    measured = differences(model, found.recipe, plain(), **rewards)
    promised = found.advice.predicted.get("short.quality")
    assert measured.low <= (promised.mean if promised else 0.0) <= measured.high


def test_noise_that_stays_good_is_inherited() -> None:
    advice = probed("noise that stays good").advice
    assert advice.keys["noise"]["draws"] == "all"
    assert advice.keys["noise"]["sigma"] > 0.7
    assert advice.keys["memory"] == {"name": "fixed", "route": "discard"}
    words = " ".join(advice.reasons["noise"])
    assert "The initial noise owns 2." in words
    assert "inherits all draws with sigma +0." in words


def test_noise_that_does_not_is_fresh_and_sinks_that_help_are_opened() -> None:
    advice = probed("sinks that help, noise that does not stay good").advice
    assert advice.keys["noise"] == {"sigma": 0.0}
    assert advice.keys["memory"] == {"name": "fixed", "route": "append"}
    assert "does not score well again" in " ".join(advice.reasons["noise"])


def test_without_a_reward_that_ranks_there_is_no_search() -> None:
    found = probed("a reward that reads its own error")
    assert found.recipe.search.is_wide is False
    assert found.advice.predicted == {}
    assert "use `plain`, or other rewards" in found.advice.reasons["candidates"][0]


def test_what_a_family_does_not_offer_is_said() -> None:
    assert "cannot be routed" in probed("choices that last").advice.reasons["memory"][0]
    hidden = probe_model(wrapped(Model(hidden=0.5, chunks=4)), PROBED_PROMPTS[:2]).advice
    assert "keeps its later draws to itself" in " ".join(hidden.reasons["noise"])
    assert "No chunk leaves the memory window" in hidden.reasons["memory"][0]


@pytest.mark.parametrize("count", [1, 5])
def test_too_few_prompts_change_nothing(count: int) -> None:
    found = probe_model(wrapped(Model(shares=(0.02, 0.98), chunks=2)), PROBED_PROMPTS[:count])
    assert found.advice.keys == {}
    assert "not enough to tell" in found.advice.reasons["candidates"][0]
    assert "Probe at least 6 prompts" in str(found)


def test_without_rewards_there_is_nothing_to_search_by() -> None:
    found = probe_model(wrapped(Model(), "plain"), PROBED_PROMPTS[:6])
    assert found.findings.rewards == {}
    assert "No reward is named" in found.advice.reasons["candidates"][0]


def test_a_reward_that_ranks_nothing_beside_one_that_does_gets_no_weight() -> None:
    rewards = {"good": Quality(), "blind": Quality(weight=0, error=1.0)}
    found = probe_model(wrapped(Model(chunks=3), **rewards), PROBED_PROMPTS[:8])
    short = found.recipe.rewards.short
    assert (short["good"].weight, short["blind"].weight) == (1, 0)
    assert "short.blind: no more than repeat error" in " ".join(found.advice.reasons["candidates"])


@pytest.mark.parametrize("name", MODELS)
def test_the_recipe_file_loads_and_has_its_reasons_as_comments(name: str, tmp_path: Path) -> None:
    found = probed(name)
    (tmp_path / PROBED).write_text(found.probed.to_yaml(), encoding="utf-8")
    (tmp_path / "advice.yaml").write_text(found.advice.to_yaml(), encoding="utf-8")
    loaded = recipes.load(tmp_path / "advice.yaml")
    assert loaded.model_dump(exclude={"description"}) == found.recipe.model_dump(exclude={"description"})
    assert all(
        f"# {reason}" in found.advice.to_yaml() for reasons in found.advice.reasons.values() for reason in reasons
    )


def test_it_extends_a_shipped_recipe_by_name() -> None:
    found = probed("noise that stays good")
    advice = advise(found.findings, found.probed, "stream-t1")
    assert recipes.load(advice.recipe()).noise.options["draws"] == "all"
    blind = probed("a reward that reads its own error")
    assert advise(blind.findings, blind.probed, "stream-t1").recipe() == {
        "extends": "plain",
        "description": "advice of streamt1 probe",
    }


def test_thresholds_follow_the_readings_where_feedback_has_both_rewards() -> None:
    found = probed("sinks that help, noise that does not stay good")
    pairs = tuple((0.1 * index - 0.3, 0.02 * index) for index in range(10))
    advice = advise(replace(found.findings, feedback=pairs), found.probed, "stream-t1")
    memory = advice.keys["memory"]
    assert memory["name"] == "reward_feedback"
    assert 0.1 < memory["long_threshold"] < 0.14
    assert memory["short_threshold"] == pytest.approx(0.0, abs=0.05)
    assert recipes.load(advice.recipe()).memory.options["long_threshold"] == memory["long_threshold"]


def test_a_decay_that_helps_is_set() -> None:
    found = probed("sinks that help, noise that does not stay good").findings
    routes = {**found.routes, "append": replace(found.routes["append"], benefit=Interval(-1, -2, -0.5, 9))}
    advice = advise(replace(found, routes=routes), probed("noise that stays good").probed, "stream-t1")
    assert advice.keys["sinks"] == {"ema_decay": 0.5}
    assert advice.keys["memory"] == {"name": "fixed", "route": "ema"}


def test_a_route_beyond_the_paper_that_helps_is_set() -> None:
    found = probed("sinks that help, noise that does not stay good")
    best = replace(found.findings.routes["append"], benefit=Interval(9, 8, 10, 9))
    routes = {**found.findings.routes, "replace": best}
    advice = advise(replace(found.findings, routes=routes), found.probed, "stream-t1")
    assert advice.keys["memory"] == {"name": "fixed", "route": "replace"}
    assert recipes.load(advice.recipe()).memory.options["route"] == "replace"


def test_memory_that_harms_is_left_off_and_memory_that_cannot_be_told_stays() -> None:
    found = probed("sinks that help, noise that does not stay good")

    def memory(benefit: Interval) -> Any:
        routes = {"append": replace(found.findings.routes["append"], benefit=benefit)}
        advice = advise(replace(found.findings, routes=routes), found.probed, "stream-t1")
        return advice.keys.get("memory")

    assert memory(Interval(-1, -2, -0.5, 9)) == {"name": "fixed", "route": "discard"}
    assert memory(Interval(0.1, -2, 2, 9)) is None


def test_more_candidates_are_advised_where_good_ones_are_rare() -> None:
    found = probed("choices that last")
    quality = found.findings.rewards["short.quality"]
    gains = {count: Interval(gain, gain, gain, 9) for count, gain in {2: 0.05, 4: 0.15, 8: 0.55, 16: 1.0}.items()}
    rare = replace(found.findings, rewards={"short.quality": replace(quality, gains=gains)})
    advice = advise(rare, found.probed, "stream-t1")
    assert advice.keys["search"] == {"candidates": 8, "top_k": 1}
    assert "8 candidates per chunk promise 55% of the gain of 16" in " ".join(advice.reasons["candidates"])


def test_an_effect_that_grows() -> None:
    assert growing(6, 4) == pytest.approx((0.5 + 1) / 6)
    assert growing(4, 4) == 0
