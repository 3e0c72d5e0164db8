"""The processes that search one video: one (`SingleProcess`), or several that share the candidates."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run

Result = TypeVar("Result")


class Workers(Protocol):
    """The processes of one search, as one of them sees them. Every process calls the same methods in the same order.

    Candidate `ordinal` of a chunk belongs to process ``ordinal % size``: it alone has its tensors until the selection.
    """

    rank: int
    size: int

    def together(self) -> AbstractContextManager[None]:
        """While a search runs: whatever ends one process inside ends all of them."""
        ...

    def doing(self, what: str) -> None:
        """Say what this process is at, for the others to tell should it not come back."""
        ...

    def share(self, run: Run, ordinals: Sequence[int], work: Callable[[list[int]], list[Result]]) -> list[Result]:
        """One result per candidate, each from the process it belongs to.

        `ordinals`: of the candidates; `work` is given the places in it that are this process's and answers in order.
        What others spent and noted meanwhile is added to this process's `run`.
        """
        ...

    def deliver(self, run: Run, kept: list[Candidate]) -> list[Candidate]:
        """The survivors, with tensors wherever they were made."""
        ...

    def exchange(self, value: Result) -> list[Result]:
        """One value from every process, in order of rank."""
        ...


class SingleProcess:
    """A team of one."""

    rank = 0
    size = 1

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def doing(self, what: str) -> None:
        """Nobody asks."""

    def share(self, run: Run, ordinals: Sequence[int], work: Callable[[list[int]], list[Result]]) -> list[Result]:
        return work(list(range(len(ordinals))))

    def deliver(self, run: Run, kept: list[Candidate]) -> list[Candidate]:
        return kept

    def exchange(self, value: Result) -> list[Result]:
        return [value]
