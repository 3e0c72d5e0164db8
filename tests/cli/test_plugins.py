"""`streamt1 plugins`: tables and JSON of what is installed."""

from __future__ import annotations

import json

import pytest

from streamt1_plugins.plugins import discovery as hooks
from tests.cli.calling import call


def test_plugins_lists_names_and_origins() -> None:
    shown = call("plugins").stdout
    for word in ("toy", "ToyPipeline", "tests.toy:Bright", "reward_feedback", "streamt1-plugins"):
        assert word in shown


def test_plugins_as_json() -> None:
    found = json.loads(call("plugins", "--json").stdout)
    assert {"name": "tinyworld", "origin": "streamt1-plugins"} in found["plugins"]
    adapters = {entry["name"]: entry for entry in found["adapters"]}
    assert adapters["tinyworld"]["bundled model"] is True
    assert adapters["wan"]["pipelines"] == ["WanPipeline"]
    assert adapters["wan"]["explicit"]
    assert adapters["toy"]["suggested rewards"] == ["bright"]
    assert {entry["kind"] for entry in found["policies"]} == {
        "width",
        "noise",
        "scoring",
        "revision",
        "selection",
        "memory",
        "observer",
    }


def test_what_an_adapter_refuses_is_listed_with_its_reason() -> None:
    found = json.loads(call("plugins", "--json").stdout)["refusals"]
    (row,) = [row for row in found if row["adapter"] == "framepack" and row["feature"] == "early pruning"]
    assert row["reason"] == "a section is one call of the pipeline, which runs all its denoising steps"
    assert not [row for row in found if row["adapter"] == "wan"]
    assert row["reason"] in call("plugins").stdout


def test_the_words_that_a_model_knows_are_listed() -> None:
    found = json.loads(call("plugins", "--json").stdout)["vocabularies"]
    assert {"adapter": "tinyworld", "kind": "shapes", "words": ["circle", "square", "triangle", "star"]} in found
    assert {row["adapter"] for row in found} == {"tinyworld", "tinyworld-student"}
    assert "circle, square, triangle, star" in call("plugins").stdout


def test_disabled_plugins_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hooks.DISABLE, "wan, gone")
    monkeypatch.setattr(hooks, "discovery", hooks.Discovery)
    found = json.loads(call("plugins", "--json").stdout)
    assert found["disabled"] == [{"name": "wan"}, {"name": "gone"}]
    assert "wan" not in [plugin["name"] for plugin in found["plugins"]]
    assert "disabled" in call("plugins").stdout


def test_details_tell_why_a_reward_cannot_be_imported() -> None:
    found = json.loads(call("plugins", "--details", "--json").stdout)
    rewards = {reward["name"]: reward for reward in found["rewards"]}
    assert "Install it with: pip install 'streamt1-plugins[none]'" in rewards["needs-extra"]["problem"]
    assert rewards["needs-extra"]["license"] is None
    assert rewards["short-only"]["horizons"] == ["short"]
    assert rewards["tinyalign"]["needs_prompt"]
