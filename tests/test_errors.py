"""Errors: one base, guesses, and foreign code that is named."""

from __future__ import annotations

import inspect

import pytest

from streamt1_plugins import errors
from streamt1_plugins.errors import PluginError, RecipeError, StreamT1Error, foreign_code, guess, unknown_name

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]


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


def test_our_own_errors_and_interrupts_pass_through() -> None:
    with pytest.raises(RecipeError, match="mine"), foreign_code("x"):
        raise RecipeError("mine")
    with pytest.raises(KeyboardInterrupt), foreign_code("x"):
        raise KeyboardInterrupt
