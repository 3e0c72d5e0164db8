"""A generator whose steps are made in a context, and whose caller is outside of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streamt1_plugins.process.stepwise import stepwise


class Context:
    """Counts how often it is entered; `is_on` inside."""

    def __init__(self) -> None:
        self.entered, self.is_on = 0, False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.entered, self.is_on = self.entered + 1, True
        try:
            yield
        finally:
            self.is_on = False


def steps(context: Context, found: list[bool], fails_at: int = 9) -> Iterator[int]:
    try:
        for number in range(3):
            found.append(context.is_on)
            if number == fails_at:
                raise ValueError(number)
            yield number
    finally:
        found.append(context.is_on)


def test_every_step_is_made_inside_and_the_caller_is_outside() -> None:
    context, found = Context(), list[bool]()
    for number in stepwise(steps(context, found), context):
        assert not context.is_on
        assert len(found) == number + 1
    assert found == [True] * 4
    assert not context.is_on


def test_a_generator_that_is_left_ends_inside() -> None:
    context, found = Context(), list[bool]()
    made = stepwise(steps(context, found), context)
    assert next(made) == 0
    made.close()
    assert found == [True, True]
    assert not context.is_on


def test_an_error_passes_and_the_context_ends() -> None:
    context, found = Context(), list[bool]()
    with pytest.raises(ValueError, match="1"):
        list(stepwise(steps(context, found, fails_at=1), context))
    assert not context.is_on
