"""Errors: one base, guesses, and foreign code that is named."""

from __future__ import annotations

import inspect
import os
import signal
from pathlib import Path

import pytest

from streamt1_plugins import errors
from streamt1_plugins.errors import (
    ContractError,
    PluginError,
    RecipeError,
    StreamT1Error,
    foreign_code,
    guess,
    place_of,
    shown,
    unknown_name,
)

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, Exception)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_ours_and_also_a_familiar_one(kind: type) -> None:
    assert issubclass(kind, StreamT1Error)
    assert kind is StreamT1Error or len(kind.__bases__) == 2
    assert (kind.__doc__ or "").strip().endswith(".")


def test_guesses() -> None:
    assert guess("top-k", ["top_k", "batch"]) == " Did you mean 'top_k'?"
    assert guess("zzz", ["top_k", "batch"]) == ""
    assert guess("a", []) == ""


def test_an_unknown_name_lists_the_known_ones_sorted() -> None:
    assert str(unknown_name("reward", "x", ["b", "a"])) == "Unknown reward 'x'. Known: a, b."
    assert str(unknown_name("reward", "x", [])) == "Unknown reward 'x'. Known: none."


def test_foreign_failures_name_the_plugin_and_keep_the_cause() -> None:
    with (
        pytest.raises(PluginError, match="Reward 'x' failed: ZeroDivisionError: division by zero") as caught,
        foreign_code("Reward 'x'"),
    ):
        _ = 1 / 0
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_our_own_errors_pass_through() -> None:
    with pytest.raises(RecipeError, match="mine"), foreign_code("x"):
        raise RecipeError("mine")
    with pytest.raises(PluginError, match="x failed: RecipeError: mine"), foreign_code("x", passes=()):
        raise RecipeError("mine")


class Mute(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Imitation(PluginError):
    def __str__(self) -> str:
        raise KeyError


class Hidden(type):
    __name__ = property(lambda cls: 1 / 0)  # type: ignore[assignment]


class Base(BaseException, metaclass=Hidden):
    pass


MISBEHAVED = [
    (SystemExit(0), "SystemExit: 0"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (GeneratorExit(), "GeneratorExit"),
    (StopIteration(5), "StopIteration: 5"),
    (StopAsyncIteration(), "StopAsyncIteration"),
    (RecursionError("deep"), "RecursionError: deep"),
    (ContractError("mine to raise?"), r"ContractError: mine to raise\?"),
    (Base("base"), "Base: base"),
    (Mute(), "Mute: <Mute without text: SystemExit>"),
    (Imitation(), "Imitation: <Imitation without text: KeyError>"),
    (ValueError("\ud800 \x1b[31m"), r"ValueError: \\ud800 \\x1b\[31m"),
]


@pytest.mark.parametrize(("error", "text"), MISBEHAVED)
def test_whatever_a_plugin_raises_is_named(error: BaseException, text: str) -> None:
    """A `StopIteration` too, which `contextlib` would hand back where `foreign_code` were a generator."""
    with pytest.raises(PluginError, match=f"^Reward 'x' failed: {text}") as caught, foreign_code("Reward 'x'"):
        raise error
    assert caught.value.__cause__ is error
    str(caught.value).encode()


def test_a_long_message_is_shortened() -> None:
    with pytest.raises(PluginError, match="998000 characters left out") as caught, foreign_code("x"):
        raise ValueError("a" * 10**6)
    assert len(str(caught.value)) < 2100


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_what_the_handler_of_a_signal_raises_is_no_failure(number: int, raised: type[BaseException]) -> None:
    """Ctrl-C while a plugin's code runs, and a job that is ended, in one context inside another one."""

    def stop(*_: object) -> None:
        raise raised

    before = signal.signal(number, stop)
    try:
        with pytest.raises(raised), foreign_code("outer", passes=()), foreign_code("inner", passes=()):
            signal.raise_signal(number)
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)


def test_a_copy_that_a_plugin_forks_does_not_come_back() -> None:
    with foreign_code("x"):
        child = os.fork()
    assert child  # only the first process reaches this line
    assert os.waitpid(child, 0)[1] == 0


def test_the_place_of_a_failure_is_the_line_of_the_plugin(tmp_path: Path) -> None:
    with pytest.raises(PluginError) as caught, foreign_code("x"):
        exec(compile("\n\n1 / 0", "/acme/plugin.py", "exec"), {"__name__": "acme"})
    assert place_of(caught.value.__cause__) == "/acme/plugin.py, line 3"
    with pytest.raises(SyntaxError) as broken:
        compile("x\ndef (", "/acme/other.py", "exec")
    assert place_of(broken.value) == "/acme/other.py, line 2"
    assert place_of(None) == ""


def test_any_value_can_be_shown() -> None:
    assert shown("\ud800") == r"'\ud800'"
    assert shown(Mute) == repr(Mute)
    assert shown([1] * 1000).startswith("[1, 1")
    assert len(shown([1] * 1000)) < 250


def test_what_the_handler_of_a_signal_raises_is_no_failure_of_the_plugin() -> None:
    def stop(*_: object) -> None:
        raise RecipeError("another process has ended")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with (
            pytest.raises(RecipeError, match="another process has ended"),
            foreign_code("Reward 'x'", passes=PluginError),
        ):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
