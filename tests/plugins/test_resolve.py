"""Which adapter drives a pipeline or a model, and recipes with every default written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins import RecipeError, UnknownNameError, UnsupportedPipelineError, hookimpl
from streamt1_plugins.config.load import load
from streamt1_plugins.plugins.resolve import completed, model_folder, resolve, resolve_adapter
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
        (None, {}, ("tinyworld", "tinyworld")),
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
