"""What plugins declare is checked before any command reads it."""

from __future__ import annotations

from typing import Any

import pytest

from streamt1_plugins import Capabilities, hookimpl
from streamt1_plugins.errors import PluginError
from streamt1_plugins.plugins.implementations import new_manager, register
from streamt1_plugins.plugins.offers import Offers, offers_of
from tests.third_party.fresh import plugin


def offered(hook: str, *names: Any, **declared: Any) -> Offers:
    def declare(register: Any) -> None:
        for name in names:
            register(name, **declared)

    manager = new_manager()
    register(manager, plugin(**{f"streamt1_register_{hook}": hookimpl(declare)}), "acme")
    return offers_of(manager, "Plugin 'acme' of acme-video", "acme-video")


def test_names_and_origins_are_collected() -> None:
    found = offered("policies", "one", "two", kind="noise", target="acme.parts:Noise")
    assert [(kind, entry.name, entry.origin) for kind, entry in found.policies] == [
        ("noise", "one", "acme-video"),
        ("noise", "two", "acme-video"),
    ]
    assert offered("rewards", "one", target=Offers).rewards[0].target is Offers
    full = Capabilities(None, frozenset(), "carried", "per_chunk", True)
    (adapter,) = offered(
        "adapters", "a", pipelines=["P"], target="m:A", rewards={"long": {}}, capabilities=full
    ).adapters
    assert adapter.capabilities is full


@pytest.mark.parametrize("name", [None, 5, "", " ", "a\nb", "\x1b[31m", "\ud800", ("a",), ["a"]])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(PluginError, match=r"^Plugin 'acme' of acme-video: register got the name"):
        offered("rewards", name, target="acme:Reward")


@pytest.mark.parametrize("target", [None, 5, "acme", "acme:", ":Reward", "acme:a b", "acme/reward.py:Reward", object()])
def test_what_is_no_target_is_refused(target: Any) -> None:
    with pytest.raises(PluginError, match=r"'acme' has the target .*; expected 'module:Class' or a class\."):
        offered("rewards", "acme", target=target)


@pytest.mark.parametrize(
    ("hook", "declared", "problem"),
    [
        ("rewards", {"extra": 5}, "extra=5; expected a text"),
        ("policies", {"kind": "nois"}, "the kind 'nois'. Did you mean 'noise'?"),
        ("policies", {"kind": ["noise"]}, "the kind .'noise'.. "),
        ("adapters", {"pipelines": "WanPipeline"}, "pipelines='WanPipeline'; expected a tuple of class names"),
        ("adapters", {"pipelines": (5,)}, "pipelines=.5,.; expected a tuple"),
        ("adapters", {"pipelines": (), "model": 5}, "model=5; expected a text"),
        ("adapters", {"pipelines": (), "explicit": True}, "explicit=True; expected a text"),
        ("adapters", {"pipelines": (), "rewards": {"short": ["a"]}}, "rewards=.*; expected {'short': {name"),
        ("adapters", {"pipelines": (), "rewards": {"medium": {}}}, "rewards=.*; expected"),
        ("adapters", {"pipelines": (), "vocabulary": ("cat",)}, "vocabulary=.*; expected {'shapes': .'circle'"),
        ("adapters", {"pipelines": (), "vocabulary": {"things": "cat"}}, "vocabulary=.*; expected"),
        ("adapters", {"pipelines": (), "vocabulary": {"things": (5,)}}, "vocabulary=.*; expected"),
        ("adapters", {"pipelines": (), "capabilities": {}}, "capabilities={}; expected `Capabilities`"),
    ],
)
def test_what_is_no_declaration_is_refused(hook: str, declared: dict[str, Any], problem: str) -> None:
    with pytest.raises(PluginError, match=f"^Plugin 'acme' of acme-video: 'x' has {problem}"):
        offered(hook, "x", target="acme:X", **declared)
