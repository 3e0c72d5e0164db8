"""What holds while a generator works, and not between two of its steps: the caller's code there has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

T = TypeVar("T")


def stepwise(
    steps: Generator[T, None, None], inside: Callable[[], AbstractContextManager[object]]
) -> Generator[T, None, None]:
    """The same steps, each made in a context of its own that `inside` returns, and so is the end."""
    try:
        while True:
            with inside():
                try:
                    made = next(steps)
                except StopIteration:
                    return
            yield made
    finally:
        with inside():
            steps.close()
