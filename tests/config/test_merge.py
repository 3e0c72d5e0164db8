"""Merging recipes; properties for any data are in `test_load_properties`."""

from __future__ import annotations

from streamt1_plugins.config.merge import as_part, flat, merged, renames


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
