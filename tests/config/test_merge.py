"""Merging recipes; properties for any data are in `test_load_properties`."""

from __future__ import annotations

from streamt1_plugins.config.merge import as_part, flat, merged, renames, without_replaced


def test_sections_are_merged_key_by_key_and_parts_of_another_name_replaced() -> None:
    base = {"search": {"top_k": 1, "batch": 2}, "noise": {"name": "a", "x": 1}, "memory": "fixed"}
    over = {"search": {"top_k": 3}, "noise": {"name": "b"}, "memory": {"route": "ema"}}
    assert merged(base, over) == {
        "search": {"top_k": 3, "batch": 2},
        "noise": {"name": "b"},
        "memory": {"name": "fixed", "route": "ema"},
    }


def test_a_part_may_be_a_bare_name() -> None:
    assert as_part("fixed") == {"name": "fixed"}
    assert not renames({"x": 1}, {"name": "a"})
    assert renames({"name": "b"}, {"name": "a"})


def test_flat_data_has_dotted_keys() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2]}


BASE = {"rewards": {"window": 4, "short": {"a": {"weight": 2}}, "long": {"b": {}}}}


def test_rewards_are_added_key_by_key() -> None:
    over = {"rewards": {"short": {"a": {"veto": 0.1}, "c": {}}}}
    assert merged(BASE, over)["rewards"] == {
        "window": 4,
        "short": {"a": {"weight": 2, "veto": 0.1}, "c": {}},
        "long": {"b": {}},
    }


def test_rewards_replace_others_where_they_say_so() -> None:
    over = {"rewards": {"replace": True, "short": {"c": {}}}}
    assert merged(BASE, over)["rewards"] == {"window": 4, "replace": True, "short": {"c": {}}}
    for nothing in ({}, {"rewards": {"replace": True}}, {"rewards": {"replace": True, "short": {}}}, {"rewards": 3}):
        assert without_replaced(BASE, nothing) == BASE
    assert merged(merged(BASE, over), {"rewards": {"long": {"d": {}}}})["rewards"]["long"] == {"d": {}}
