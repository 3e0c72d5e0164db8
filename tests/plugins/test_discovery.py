"""Every hook is called as its docstring says; plugins are found, named in errors, and never change a result unasked."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch
import typer

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError
from streamt1_plugins.plugins.discovery import DISABLE, Discovery
from streamt1_plugins.plugins.implementations import TRACE
from tests.third_party.fresh import distribution, fresh_discovery, plugin
from tests.toy import ToyPipeline

if TYPE_CHECKING:
    from pathlib import Path

hookimpl = streamt1.hookimpl


def run(*overrides: str, observers: dict[str, object] | None = None, **call: Any) -> streamt1.StreamPipeline:
    pipe = streamt1.wrap(ToyPipeline(), "stream-t1", overrides=overrides, observers=observers)
    pipe.video = pipe("a prompt", **call)
    return pipe


# The hooks, one test each.


def test_hook_register_adapters() -> None:
    @hookimpl
    def declare(register: Any) -> None:
        register("acme", pipelines=("AcmePipeline",), target="acme:Adapter", explicit="because.")

    found = Discovery()
    found.add(plugin(streamt1_register_adapters=declare), name="acme", origin="acme-video")
    entry = found.adapters["acme"]
    assert (entry.pipelines, entry.origin, entry.explicit) == (("AcmePipeline",), "acme-video", "because.")


def test_hook_register_rewards() -> None:
    @hookimpl
    def declare(register: Any) -> None:
        register("acme", target="acme:Reward", extra="acme[gpu]")

    found = Discovery()
    found.add(plugin(streamt1_register_rewards=declare), name="acme", origin="acme-video")
    assert (found.rewards["acme"].target, found.rewards["acme"].extra) == ("acme:Reward", "acme[gpu]")


def test_hook_register_policies() -> None:
    @hookimpl
    def declare(register: Any) -> None:
        for kind in ("width", "noise", "scoring", "selection", "memory", "observer"):
            register("acme", kind=kind, target="acme:Part")

    found = Discovery()
    found.add(plugin(streamt1_register_policies=declare), name="acme", origin="acme-video")
    assert all("acme" in table for table in found.policies.values())


def test_hook_add_commands() -> None:
    @hookimpl
    def add(cli: typer.Typer) -> None:
        cli.command("hello")(lambda: None)

    found, cli = Discovery(), typer.Typer()
    found.add(plugin(streamt1_add_commands=add), name="acme", origin="acme-video")
    found.add_commands(cli)
    assert "hello" in [command.name for command in cli.registered_commands]


# Discovery.


def test_a_broken_plugin_is_named_with_its_distribution_and_the_off_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "acme-video", "acme_broken", "1 / 0", point="acme")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"'acme' of acme-video \(STREAMT1_DISABLE_PLUGINS=acme.*ZeroDivisionError"):
        Discovery()
    monkeypatch.setenv(DISABLE, "other, acme")
    assert "acme" not in Discovery().plugins


def test_a_disabled_plugin_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "wan" in Discovery().adapters
    monkeypatch.setenv(DISABLE, "wan")
    found = Discovery()
    assert "wan" not in found.adapters
    assert "tinyworld" in found.adapters


MISSPELT = """
from streamt1_plugins import hookimpl
@hookimpl
def streamt1_register_reward(register): ...
"""


def test_a_misspelt_hook_name_is_an_error_naming_the_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "acme-video", "acme_misspelt", MISSPELT, point="acme")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"'acme' of acme-video implements a hook that does not exist.*_reward'"):
        Discovery()


def test_a_refused_plugin_is_not_blamed_on_the_next_one() -> None:
    found = Discovery()
    with pytest.raises(PluginError, match="does not exist"):
        found.add(plugin(streamt1_oops=hookimpl(lambda: None)), name="bad", origin="bad-dist")
    found.add(plugin(), name="good", origin="good-dist")
    assert "good" in found.plugins
    assert "bad" not in found.plugins


def test_a_hook_with_an_unknown_argument_names_the_plugin() -> None:
    with pytest.raises(PluginError, match=r"(?s)'acme' of acme-video .*registry"):
        Discovery().add(
            plugin(streamt1_register_rewards=hookimpl(lambda registry: None)), name="acme", origin="acme-video"
        )


def test_two_distributions_with_one_entry_point_name_are_an_error_naming_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "acme-video", "acme_one", "", point="same")
    distribution(tmp_path, "rival-video", "rival_one", "", point="same")
    monkeypatch.syspath_prepend(tmp_path)
    both = r"a plugin named 'same': (acme|rival)-video \(\w+\) and (acme|rival)-video \(\w+\)"
    with pytest.raises(PluginError, match=both):
        Discovery()
    monkeypatch.setenv(DISABLE, "same")
    Discovery()


@pytest.mark.parametrize(
    ("hook", "declared"),
    [
        ("adapters", {"pipelines": (), "target": "acme:X"}),
        ("rewards", {"target": "acme:X"}),
        ("policies", {"kind": "noise", "target": "acme:X"}),
    ],
)
def test_a_taken_name_is_an_error_naming_both_origins(hook: str, declared: dict[str, Any]) -> None:
    taken = {"adapters": "wan", "rewards": "basic", "policies": "propagate"}[hook]
    rival = plugin(**{f"streamt1_register_{hook}": hookimpl(lambda register: register(taken, **declared))})
    with pytest.raises(PluginError, match=rf"'{taken}': streamt1-plugins \(.*\) and acme-video \(acme:X\)"):
        Discovery().add(rival, name="acme", origin="acme-video")


def test_calls_can_be_traced(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    run()
    assert not caplog.records
    monkeypatch.setenv(TRACE, "1")
    with caplog.at_level(logging.WARNING, logger="streamt1"):
        run()
    assert "streamt1_select calls selection.top_k" in caplog.messages
    assert "streamt1_propose_noise -> list" in caplog.messages


@hookimpl
def answer_everything(register: Any) -> None:
    for kind in ("width", "noise", "scoring", "selection", "memory", "observer"):
        register("rogue", kind=kind, target="tests.no_such_module:Rogue")


def rogue_select(candidates: Any) -> Any:
    return candidates[-1:]


def test_a_plugin_the_recipe_does_not_name_never_changes_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run()
    rogue = plugin(streamt1_register_policies=answer_everything, streamt1_select=hookimpl(rogue_select))
    fresh_discovery(monkeypatch, rogue=rogue)
    after = run()
    assert torch.equal(before.video, after.video)
    assert [(n.id, n.seed, n.score, n.fate) for n in before.tree] == [
        (n.id, n.seed, n.score, n.fate) for n in after.tree
    ]
