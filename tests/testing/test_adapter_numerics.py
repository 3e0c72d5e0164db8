"""The part of the contract that every variant repeats; tests/testing/test_adapter.py breaks it test by test."""

from __future__ import annotations

from streamt1_plugins.testing import AdapterContract, AdapterNumerics
from tests.testing.test_adapter import DRAFTS


def promises(kind: type) -> set[str]:
    return {name for name in dir(kind) if name.startswith("test_")}


def test_a_variant_repeats_a_part_of_the_contract() -> None:
    assert promises(AdapterNumerics) < promises(AdapterContract)


def test_drafts_depend_on_the_variant() -> None:
    assert {test for _, test, _ in DRAFTS} <= promises(AdapterNumerics)
