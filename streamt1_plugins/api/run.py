"""One call of a wrapped pipeline, and what it has cost so far."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from time import perf_counter
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.types import Chunk
from streamt1_plugins.errors import PluginError, described

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.config.schema import Recipe


@dataclass
class Cost:
    """What a run has spent: counts, and seconds by stage (`generate`, `decode`, `reward`, `commit`).

    `forwards`: transformer forwards, every row of a batch for itself. `readings`: verdicts of one reward on one
    candidate; one call of a reward gives many. `readings_saved`: those that a cascade of rewards, or early pruning,
    made unnecessary.
    """

    candidates: int = 0
    forwards: int = 0
    latent_frames_decoded: int = 0
    reward_calls: int = 0
    readings: int = 0
    readings_saved: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to `seconds[stage]`."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - start

    def counts(self) -> dict[str, int]:
        """Everything but the seconds, by name."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "seconds"}

    def add(self, counts: Mapping[str, int]) -> None:
        """Add `counts`, by name."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)


@dataclass
class Run:
    """One call of a wrapped pipeline, as every hook sees it.

    Hooks read it; only the search changes `beams` (best first), `chunk` and `cost`, and adds to `tree`. `call` holds
    the arguments as the caller gave them and the generator behind `seed`. Setting `stop` ends the search after the
    current chunk, as if it were the last. `threads`: the CPU threads that it works with, None for the process's own.
    """

    recipe: Recipe
    session: Session
    tree: Tree
    prompt: str
    seed: int
    beams: tuple[Beam, ...] = ()
    chunk: Chunk | None = None
    cost: Cost = field(default_factory=Cost)
    call: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    stop: bool = False
    threads: int | None = None
    released: Callable[[], None] = field(default=lambda: None, repr=False)

    def close(self) -> None:
        """Close the session and let the next call use the pipeline; a second call does nothing."""
        try:
            self.session.close()
        finally:
            self.released()

    @property
    def is_plain(self) -> bool:
        """One candidate per chunk: nothing to search, so the plain pipeline's own noise stream is used."""
        return not self.recipe.search.is_wide

    def chunks(self) -> Iterator[Chunk]:
        """The chunks still to come, in order."""
        done = self.beams[0].history.index if self.beams else 0
        return (Chunk(index, self.session.num_chunks) for index in range(done, self.session.num_chunks))

    @contextmanager
    def spending(self, stage: str) -> Iterator[None]:
        """Count the time and the session's transformer forwards spent inside as part of the search."""
        before = self.session.forwards
        try:
            with self.cost.timing(stage):
                yield
        except StopIteration as error:  # it would end the search's generators instead of the run
            raise PluginError(f"The adapter's session failed in {stage}: {described(error)}") from None
        finally:
            self.cost.forwards += self.session.forwards - before
