"""The callbacks take what the tables of discovery keep."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import get_args

from streamt1_plugins.api.register import PolicyKind, RegisterAdapter, RegisterReward
from streamt1_plugins.config.schema import PARTS
from streamt1_plugins.plugins.registry import AdapterEntry, Entry

OF_DISCOVERY = {"name", "target", "origin", "extra"}


def test_an_adapter_declares_what_its_entry_keeps() -> None:
    declared = inspect.signature(RegisterAdapter.__call__).parameters.keys() - {"self"}
    assert declared - OF_DISCOVERY == {field.name for field in fields(AdapterEntry)} - OF_DISCOVERY


def test_a_reward_declares_what_its_entry_keeps() -> None:
    declared = inspect.signature(RegisterReward.__call__).parameters.keys() - {"self"}
    assert declared == {field.name for field in fields(Entry)} - {"origin"}


def test_policies_are_registered_for_the_sections_that_name_parts() -> None:
    assert set(get_args(PolicyKind)) == {*PARTS, "observer"} - {"adapter"}
