"""Which adapter drives a pipeline or a model, and recipes with every default written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins import RecipeError, UnknownNameError, UnsupportedPipelineError, hookimpl
from streamt1_plugins.config.load import load
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.plugins.resolve import completed, model_folder, resolve, resolve_adapter
from streamt1_plugins.runs.recorded import RecordedRun
from tests.third_party.fresh import fresh_discovery, plugin
from tests.toy import ToyPipeline


class Unclaimed:
    """A pipeline that no adapter drives."""


class Explicit:
    """A pipeline whose class alone does not decide."""


class Derived(ToyPipeline):
    """A subclass of a pipeline that an adapter drives."""


@hookimpl
def rivals(register: Any) -> None:
    register("second-toy", pipelines=("ToyPipeline",), target="tests.toy:ToyAdapter")


@hookimpl
def explicit(register: Any) -> None:
    for name in ("causal", "causal-too"):
        register(name, pipelines=("Explicit",), target="tests.toy:ToyAdapter", explicit="it may be bidirectional.")


# Adapters.


@pytest.mark.parametrize("pipe", [ToyPipeline(), Derived()])
def test_the_class_of_a_pipeline_decides(pipe: object) -> None:
    assert resolve_adapter(pipe, None).name == "toy"


def test_a_named_adapter_is_taken_whatever_the_class() -> None:
    assert resolve_adapter(Unclaimed(), "toy-steps").name == "toy-steps"
    with pytest.raises(UnknownNameError, match=r"Unknown adapter 'toyy'\. Did you mean 'toy'\?"):
        resolve_adapter(ToyPipeline(), "toyy")


def test_a_pipeline_without_an_adapter_is_named_with_the_adapters() -> None:
    message = r"No adapter drives Unclaimed\. Adapters: .*toy \(ToyPipeline\).*toy-bare \(named only\)"
    with pytest.raises(UnsupportedPipelineError, match=message):
        resolve_adapter(Unclaimed(), None)


def test_two_adapters_for_a_class_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_discovery(monkeypatch, rival=plugin(streamt1_register_adapters=rivals))
    message = r"Several adapters claim ToyPipeline: toy \(tests\), second-toy \(the rival distribution\)"
    with pytest.raises(UnsupportedPipelineError, match=message):
        resolve_adapter(ToyPipeline(), None)


def test_an_explicit_adapter_has_to_be_named_and_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_discovery(monkeypatch, causal=plugin(streamt1_register_adapters=explicit))
    message = r"Explicit: it may be bidirectional\. .* adapter='causal' or adapter='causal-too'\."
    with pytest.raises(UnsupportedPipelineError, match=message):
        resolve_adapter(Explicit(), None)


# Models.


def test_a_bundled_model_is_a_folder() -> None:
    assert model_folder("toy") == "toy-folder"
    assert (Path(model_folder("tinyworld")) / "model_index.json").exists()
    assert model_folder("some/model") == "some/model"


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        (None, {}, ("tinyworld-student", "tinyworld-student")),
        ("toy", {}, ("toy", "toy")),
        ("some/model", {"adapter": "toy"}, ("some/model", "toy")),
        (None, {"overrides": ["model=toy"]}, ("toy", "toy")),
        (None, {"overrides": ["model=some/model", "adapter=toy"]}, ("some/model", "toy")),
        ("toy", {"overrides": ["model=some/model"]}, ("toy", "toy")),
    ],
)
def test_model_and_adapter_are_decided(model: str | None, options: dict[str, Any], expected: tuple[str, str]) -> None:
    found = resolve("stream-t1", model, **options)
    assert (found.model, found.adapter.name) == expected


def test_a_model_without_an_adapter_is_named() -> None:
    with pytest.raises(UnsupportedPipelineError, match=r"Which adapter drives 'some/model'\? Name it with adapter="):
        resolve("stream-t1", "some/model")


# Completed recipes.


def test_every_option_is_written_out_and_completing_again_changes_nothing() -> None:
    found = resolve("stream-t1", "toy")
    assert found.adapter.options["gain"] == 1.0
    assert found.noise.options.keys() == {"sigma", "seeds", "device", "draws"}
    assert list(found.rewards.short) == list(found.rewards.long) == ["bright"]
    assert resolve(found) == found


def test_a_search_without_rewards_is_refused_where_the_adapter_suggests_none() -> None:
    with pytest.raises(
        RecipeError, match=r"names no rewards, and the adapter 'toy-bare' suggests none\..*rewards\.long"
    ):
        resolve("stream-t1", "some/model", adapter="toy-bare")
    assert not resolve("plain", "some/model", adapter="toy-bare").rewards.are_named


def test_named_rewards_are_kept_as_they_are() -> None:
    recipe = load("stream-t1", ["rewards.long.scripted={}", "rewards.long.scripted.weight=2"])
    found = completed(recipe, resolve_adapter(ToyPipeline(), None))
    assert list(found.rewards.long) == ["bright", "scripted"]
    assert found.rewards.long["scripted"].weight == 2
    assert found.rewards.long["scripted"].options["levels"] == [0.0]


# Rewards of the adapter, the recipe and the caller add up.


def named(found: Any) -> dict[str, list[str]]:
    return {horizon: sorted(getattr(found.rewards, horizon)) for horizon in ("short", "long")}


SUGGESTED = {"short": ["basic"], "long": ["tinyalign"]}


def test_naming_a_reward_keeps_the_suggested_ones_and_their_settings() -> None:
    found = resolve("stream-t1", overrides=["rewards.long.flicker.weight=0.5"])
    assert named(found) == {"short": ["basic"], "long": ["flicker", "tinyalign"]}
    assert found.rewards.long["tinyalign"].calibration == "running"
    assert found.rewards.replace is True, "it is complete"


@pytest.mark.parametrize("recipe", ["stream-t1", load("stream-t1")], ids=["name", "object"])
def test_a_suggested_reward_may_be_changed_by_name(recipe: Any) -> None:
    found = resolve(load(recipe, ["rewards.long.tinyalign.weight=0.5"]))
    assert named(found) == SUGGESTED
    assert (found.rewards.long["tinyalign"].weight, found.rewards.long["tinyalign"].calibration) == (0.5, "running")


def test_rewards_that_replace_are_all_there_are(tmp_path: Path) -> None:
    overrides = ["rewards.replace=true", "rewards.long.flicker.weight=0.5"]
    assert named(resolve("stream-t1", overrides=overrides)) == {"short": [], "long": ["flicker"]}
    (tmp_path / "base.yaml").write_text("extends: stream-t1\nrewards: {long: {drift: {}}}\n")
    base = tmp_path / "base.yaml"
    assert named(resolve(base)) == {"short": ["basic"], "long": ["drift", "tinyalign"]}
    assert named(resolve(base, overrides=overrides)) == {"short": [], "long": ["flicker"]}
    assert named(resolve(base, overrides=["rewards.replace=true"])) == {"short": [], "long": ["drift"]}
    own = {"extends": str(base), "rewards": {"replace": True, "short": {"seam": {}}}}
    assert named(resolve(own)) == {"short": ["seam"], "long": []}


def test_a_complete_recipe_gets_no_more_rewards_but_takes_those_that_are_added() -> None:
    first = resolve("stream-t1", overrides=["rewards={replace: true, long: {flicker: {}}}"])
    assert resolve(first) == first
    assert named(resolve(first, overrides=["rewards.long.drift={}"])) == {"short": [], "long": ["drift", "flicker"]}


def test_the_papers_recipe_has_the_named_rewards_alone_or_the_suggested_ones() -> None:
    assert named(resolve("stream-t1-paper")) == SUGGESTED
    assert named(resolve("stream-t1-paper", overrides=["rewards.short.seam={}"])) == {"short": ["seam"], "long": []}
    own = {"extends": "stream-t1-paper", "rewards": {"short": {"seam": {}}}}
    assert named(resolve(own)) == {"short": ["seam"], "long": []}


def test_without_a_search_no_reward_is_added() -> None:
    assert named(resolve("plain")) == {"short": [], "long": []}
    assert named(resolve("plain", overrides=["rewards.long.flicker={}"])) == {"short": [], "long": ["flicker"]}


def test_a_reward_elsewhere_keeps_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    @hookimpl
    def optional(register: Any) -> None:
        rewards = {"long": {"scripted": {"weight": 3, "options": {"levels": [1.0]}}}}
        register("opinionated", pipelines=(), target="tests.toy:ToyAdapter", rewards=rewards)

    fresh_discovery(monkeypatch, opinionated=plugin(streamt1_register_adapters=optional))
    here = resolve("stream-t1", "some/model", adapter="opinionated")
    assert here.rewards.long["scripted"].options["levels"] == [1.0]
    where = "rewards.long.scripted.where=http://127.0.0.1:1"
    there = resolve("stream-t1", "some/model", adapter="opinionated", overrides=[where])
    assert (there.rewards.long["scripted"].weight, there.rewards.long["scripted"].options) == (3, {})


@pytest.mark.parametrize("name", ["finished", "toy"])
def test_a_recipe_of_an_old_run_has_the_rewards_of_that_run(name: str) -> None:
    file = OLD / name / "recipe.yaml"
    then = named(load(file))
    assert load(file).rewards.replace is True
    assert named(resolve(file, overrides=["search.candidates=3"])) == then
    assert named(completed(RecordedRun.read(OLD / name).recipe, discovery().adapters[RUN_BY[name]])) == then


OLD = Path(__file__).parents[1] / "data" / "runs-0.1"
RUN_BY = {"finished": "tinyworld", "toy": "toy"}


@pytest.mark.parametrize(
    ("memory", "match"),
    [
        ({"name": "fixed", "route": "appnd"}, "'fixed' may answer with the route 'appnd'.* Did you mean 'append'"),
        ({"name": "elite", "otherwise": "drop"}, "'elite' may answer with the route 'drop'"),
    ],
)
def test_a_route_that_the_memory_does_not_have_is_found_beforehand(memory: dict[str, str], match: str) -> None:
    recipe = load({"rewards": {"long": {"basic": {}}}, "memory": memory})
    with pytest.raises(RecipeError, match=match):
        completed(recipe, discovery().adapters["wan"])
