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
    """The processes of one search, seen from process `rank` of `size`.

    Every process calls the same methods in the same order. Candidate `ordinal` of a chunk belongs to process
    ``ordinal % size``, which alone has its tensors until the selection.
    """

    rank: int
    size: int

    def fail_together(self) -> AbstractContextManager[None]:
        """A context in which an error that ends one process ends all of them."""

    def set_status(self, activity: str) -> None:
        """Publish what this process does now, for error messages of the others."""

    def map(self, run: Run, ordinals: Sequence[int], work: Callable[[list[int]], list[Result]]) -> list[Result]:
        """One result per candidate in `ordinals`, each computed by the process that the candidate belongs to.

        `work` gets the indices into `ordinals` that belong to this process and returns their results in order. Costs
        and notes of the other processes are added to this process's `run`.
        """

    def gather_survivors(self, run: Run, kept: list[Candidate]) -> list[Candidate]:
        """The survivors with their latents, whichever process made them."""

    def all_gather(self, value: Result) -> list[Result]:
        """The values of all processes, in order of rank."""


class SingleProcess:
    """Workers of a search in this process alone."""

    rank = 0
    size = 1

    def fail_together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def set_status(self, activity: str) -> None:
        """Do nothing: no other process reads it."""

    def map(self, run: Run, ordinals: Sequence[int], work: Callable[[list[int]], list[Result]]) -> list[Result]:
        return work(list(range(len(ordinals))))

    def gather_survivors(self, run: Run, kept: list[Candidate]) -> list[Candidate]:
        return kept

    def all_gather(self, value: Result) -> list[Result]:
        return [value]
