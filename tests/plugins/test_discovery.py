"""Every hook is called as its docstring says; plugins are found, named in errors, and never change a result unasked."""

from __future__ import annotations

import itertools
import logging
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
import typer

import streamt1_plugins as streamt1
from streamt1_plugins.errors import PluginError, UnknownNameError
from streamt1_plugins.plugins.discovery import DISABLE, Discovery
from streamt1_plugins.plugins.implementations import TRACE
from tests.third_party.fresh import distribution, fresh_discovery, plugin
from tests.toy import ToyPipeline

if TYPE_CHECKING:
    from collections.abc import Callable
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
        for kind in ("width", "noise", "scoring", "revision", "selection", "memory", "observer"):
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


NUMBERS = itertools.count()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Discovery]:
    """Installs the distribution acme-video with the plugin `acme`; returns what is found then."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(source: str, value: str = "") -> Discovery:
        module = f"acme_{next(NUMBERS)}"  # a module that was imported once is not imported again
        distribution(tmp_path, "acme-video", module, source, point="acme")
        if value:
            points = tmp_path / "acme-video-1.0.dist-info" / "entry_points.txt"
            points.write_text(f"[streamt1]\nacme = {value.replace('MODULE', module)}\n", encoding="utf-8")
        return Discovery()

    return install


HOOK = """
from streamt1_plugins import hookimpl
@hookimpl
def streamt1_register_rewards(register):
"""

REGISTERS = HOOK + "    register('acme', target='a:B')\n"


@pytest.mark.parametrize(
    ("source", "value", "reason"),
    [
        ("1 / 0", "", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "", "KeyboardInterrupt"),
        ("raise GeneratorExit", "", "GeneratorExit"),
        ("raise StopIteration", "", "StopIteration"),
        ("import streamt1_plugins\nraise streamt1_plugins.RecipeError('mine')", "", "RecipeError: mine"),
        ("def f(): f()\nf()", "", "RecursionError: "),
        ("raise ValueError('x' * 10**6 + chr(0xd800))", "", r"ValueError: x+ \[\d+ characters left out\] x+\\ud800"),
        ("import no_such_module", "", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("", "no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("", "MODULE:nowhere", "AttributeError: .*'nowhere'"),
        ("", ":::", "AttributeError"),
        ("x = 5", "MODULE:x", "implements no hook"),
        ("x = 5", "", "implements no hook"),
        (f"class X:{HOOK}".replace("\n", "\n    ") + "    pass", "MODULE:X", "is a class; its entry point has to name"),
        (
            REGISTERS.replace("rewards", "reward"),
            "",
            "a hook that does not exist: .*Did you mean 'streamt1_register_rewards'",
        ),
        (REGISTERS.replace("streamt1_reg", "streamt_reg"), "", "Did you mean 'streamt1_register_rewards'"),
        (REGISTERS.replace("(register)", "(registry)"), "", "implements a hook wrongly: .*registry"),
        (REGISTERS + "    raise SystemExit(1)", "", "SystemExit: 1"),
        (REGISTERS + "    return next(iter(()))", "", "StopIteration"),
        (HOOK + "    return ['acme']", "", r"registers nothing and returns \['acme'\]; call register"),
        (HOOK + "    yield register", "", "registers nothing and returns <generator"),
        (HOOK + "    register(5, target='a:B')", "", "register got the name 5; expected a text"),
        (HOOK + "    register('acme', target=5)", "", "'acme' has the target 5; expected 'module:Class' or a class"),
        (HOOK + "    register('acme', target='acme')", "", "'acme' has the target 'acme'"),
        (HOOK + "    register('acme')", "", "TypeError: .*target"),
    ],
)
def test_a_plugin_that_misbehaves_is_broken_and_has_no_names(
    installed: Callable[..., Discovery], source: str, value: str, reason: str
) -> None:
    found = installed(source, value)
    (broken,) = found.broken
    assert (broken.name, broken.origin) == ("acme", "acme-video")
    assert re.search(f"(?s){reason}", broken.reason), broken.reason
    assert "acme" not in found.plugins
    assert dict.get(found.rewards, "acme") is None
    assert "tinyworld" in found.adapters
    with pytest.raises(UnknownNameError, match=r"(?s)A plugin that did not load may have it: 'acme' of acme-video"):
        found.rewards["acme"]


def test_a_broken_plugin_has_the_line_and_the_entry_point(installed: Callable[..., Discovery]) -> None:
    (broken,) = installed("x = 1\n1 / 0").broken
    assert broken.place.endswith(f"{broken.entry}.py, line 2")
    assert broken.entry.startswith("acme_")


def test_in_strict_mode_a_broken_plugin_is_an_error_with_the_off_switch(
    installed: Callable[..., Discovery], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = installed("1 / 0")
    with pytest.raises(PluginError, match=r"'acme' of acme-video \(STREAMT1_DISABLE_PLUGINS=acme.*ZeroDivisionError"):
        found.refuse_broken()
    monkeypatch.setenv(DISABLE, "other, acme")
    assert Discovery().broken == []


def test_what_a_plugin_changes_in_the_process_is_put_back(installed: Callable[..., Discovery]) -> None:
    changes = "import os, sys, torch; torch.set_default_dtype(torch.float64); os.chdir(os.sep); torch.manual_seed(1)\n"
    before, folder = torch.get_rng_state(), os.getcwd()
    found = installed(changes + REGISTERS)
    assert found.rewards["acme"].origin == "acme-video"
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(before, torch.get_rng_state())
    assert os.getcwd() == folder
    assert found.changed["acme"] == ["the working folder", "torch's default dtype"]


def test_what_a_plugin_prints_does_not_reach_standard_output(
    installed: Callable[..., Discovery], capsys: pytest.CaptureFixture[str]
) -> None:
    installed("print('hello')\n" + REGISTERS)
    assert capsys.readouterr() == ("", "hello\n")


def test_damaged_metadata_of_one_distribution_hides_no_other_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "acmevideo", "acme_whole", REGISTERS, point="acme")
    (tmp_path / "damaged-1.0.dist-info").mkdir()
    (tmp_path / "damaged-1.0.dist-info" / "entry_points.txt").write_bytes(b"[streamt1]\nx = \xff\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = Discovery()
    assert {"acme", "wan"} <= {*found.plugins}
    (broken,) = found.broken
    assert "damaged-1.0.dist-info" in broken.origin
    assert "UnicodeDecodeError" in broken.reason


def test_a_disabled_plugin_offers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "wan" in Discovery().adapters
    monkeypatch.setenv(DISABLE, "wan")
    found = Discovery()
    assert "wan" not in found.adapters
    assert "tinyworld" in found.adapters


def test_a_refused_plugin_is_not_blamed_on_the_next_one() -> None:
    found = Discovery()
    with pytest.raises(PluginError, match="does not exist"):
        found.add(plugin(streamt1_oops=hookimpl(lambda: None)), name="bad", origin="bad-dist")
    good = plugin(streamt1_register_rewards=hookimpl(lambda register: None))
    found.add(good, name="good", origin="good-dist")
    assert "good" in found.plugins
    assert "bad" not in found.plugins


def test_a_hook_with_an_unknown_argument_names_the_plugin() -> None:
    with pytest.raises(PluginError, match=r"(?s)'acme' of acme-video .*registry"):
        Discovery().add(
            plugin(streamt1_register_rewards=hookimpl(lambda registry: None)), name="acme", origin="acme-video"
        )


def test_of_two_distributions_with_one_entry_point_name_the_second_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rival", "acme"):
        distribution(tmp_path, name, f"{name}_one", REGISTERS.replace("'acme'", f"'{name}'"), point="same")
    monkeypatch.syspath_prepend(tmp_path)
    found = Discovery()
    assert found.plugins["same"] == "acme"
    assert ("acme" in found.rewards, "rival" in found.rewards) == (True, False)
    (broken,) = found.broken
    assert "a plugin named 'same': acme (acme_one) and rival (rival_one)" in broken.reason
    monkeypatch.setenv(DISABLE, "same")
    assert Discovery().broken == []


def test_a_name_that_two_plugins_offer_is_an_error_only_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A built-in one too: which of the two a recipe means must not depend on what is installed."""
    monkeypatch.syspath_prepend(tmp_path)
    distribution(
        tmp_path, "acme", "acme_two", REGISTERS.replace("'acme'", "'basic'") + "    register('mine', target='a:B')"
    )
    found = Discovery()
    assert (found.broken, found.rewards["mine"].origin) == ([], "acme")
    for use in (lambda: found.rewards["basic"], lambda: found.rewards.get("basic"), found.refuse_broken):
        with pytest.raises(PluginError, match=r"reward 'basic': acme \(a:B\) and streamt1-plugins"):
            use()


def test_a_plugin_may_keep_its_callback_without_effect() -> None:
    kept: list[Any] = []
    found = Discovery()
    found.add(plugin(streamt1_register_rewards=hookimpl(lambda register: kept.append(register))), name="x", origin="y")
    kept[0]("late", target="a:B")
    assert "late" not in found.rewards


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
    for kind in ("width", "noise", "scoring", "revision", "selection", "memory", "observer"):
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
