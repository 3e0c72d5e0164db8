"""Recipes of version 0.1 load under today's keys, with one note per key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins.config import renamed
from streamt1_plugins.config.load import load, recorded
from streamt1_plugins.errors import RecipeError


@pytest.fixture(autouse=True)
def _not_noted_yet() -> Iterator[None]:
    renamed._note.cache_clear()
    yield
    renamed._note.cache_clear()


@pytest.mark.parametrize(("old", "new"), [("device", "none"), ("cpu", "cpu"), ("recompute", "recompute")])
def test_park_is_offload(old: str, new: str) -> None:
    assert load({"search": {"park": old}}) == load({"search": {"offload": new}})


@pytest.mark.parametrize("value", [True, False])
def test_previews_are_thumbnails(value: bool) -> None:
    assert load({"parallel": {"previews": value}}).parallel.thumbnails is value


def test_files_and_the_recipes_they_extend_are_upgraded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "base.yaml").write_text("search: {park: cpu, candidates: 5}\nparallel: {previews: false}\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\nsearch: {top_k: 1}\n")
    found = load(tmp_path / "mine.yaml")
    assert (found.search.offload, found.search.candidates, found.parallel.thumbnails) == ("cpu", 5, False)
    assert caplog.messages == [
        "The recipe key search.park is now search.offload. Version 0.3 no longer accepts the old key.",
        "The recipe key parallel.previews is now parallel.thumbnails. Version 0.3 no longer accepts the old key.",
    ]


def test_a_new_key_replaces_the_old_one_of_the_recipe_it_extends(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("search: {park: cpu}\n")
    assert load({"extends": str(tmp_path / "base.yaml"), "search": {"offload": "none"}}).search.offload == "none"


@pytest.mark.parametrize("override", ["search.park=cpu", "search={park: cpu}", " search.park = cpu"])
def test_overrides_are_upgraded(override: str) -> None:
    assert load({"search": {"offload": "recompute"}}, [override]).search.offload == "cpu"


def test_each_key_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        load("plain", ["search.park=cpu"])
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("streamt1", "WARNING")


def test_a_recipe_of_today_is_not_noted(caplog: pytest.LogCaptureFixture) -> None:
    load(load("stream-t1").model_dump(), ["search.offload=cpu", "parallel.thumbnails=false"])
    assert not caplog.records


def test_a_recorded_recipe_is_upgraded_without_a_note(caplog: pytest.LogCaptureFixture) -> None:
    data: dict[str, Any] = load("stream-t1").model_dump(mode="json")
    data["search"]["park"] = {"none": "device"}[data["search"].pop("offload")]
    data["parallel"]["previews"] = data["parallel"].pop("thumbnails")
    assert recorded(data) == load("stream-t1")
    assert not caplog.records
    assert "park" in data["search"]  # the caller's data stays as it was


def test_a_recorded_recipe_may_be_wrong() -> None:
    with pytest.raises(RecipeError, match=r"the recorded recipe: search\.top_k = 0"):
        recorded({"search": {"top_k": 0}})


@pytest.mark.parametrize(
    ("data", "override"),
    [({"search": {"park": "cpu", "offload": "cpu"}}, None), ({}, "search={park: cpu, offload: none}")],
)
def test_both_names_of_a_key_are_an_error(data: dict[str, Any], override: str | None) -> None:
    message = r"search\.park is the old name of search\.offload, and both are given\. Delete search\.park\."
    with pytest.raises(RecipeError, match=message):
        load(data, [override] if override else [])


def test_an_error_under_the_new_key_gives_the_old_one_too() -> None:
    with pytest.raises(RecipeError, match=r"search\.offload = 'gpu': .*\(search\.park in recipes of 0\.1\)"):
        load({}, ["search.park=gpu"])


@pytest.mark.parametrize("value", ["[cpu]", "{cpu: 1}", "null", "3"])
def test_a_value_of_the_wrong_kind_is_an_error_of_the_recipe(value: str) -> None:
    with pytest.raises(RecipeError, match=r"search\.offload"):
        load({}, [f"search.park={value}"])
