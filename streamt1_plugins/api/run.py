"""One call of a wrapped pipeline, and what it has cost so far."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from time import perf_counter
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.background import Background
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
    """What a run has spent: counts, and seconds by stage (`generate`, `preview`, `decode`, `reward`, `commit`).

    `forwards`: transformer forwards, every row of a batch for itself. `latent_frames_previewed`: those that the preview
    decoder made frames of. `readings`: verdicts of one reward on one
    candidate; one call of a reward gives many. `readings_saved`: those that a cascade of rewards, or early pruning,
    made unnecessary. `reward_profile`: by horizon and name, as in `long.tinyalign`, how many `readings` this process
    took and in how many `seconds`.
    """

    candidates: int = 0
    forwards: int = 0
    latent_frames_decoded: int = 0
    latent_frames_previewed: int = 0
    reward_calls: int = 0
    readings: int = 0
    readings_saved: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    reward_profile: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to `seconds[stage]`."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - start

    @contextmanager
    def judging(self, reward: str, candidates: int) -> Iterator[None]:
        """Add the time spent inside, and these readings, to what `reward` has cost."""
        start = perf_counter()
        try:
            yield
        finally:
            spent = self.reward_profile.setdefault(reward, {"readings": 0, "seconds": 0.0})
            spent["readings"] += candidates
            spent["seconds"] += perf_counter() - start

    def judged(self) -> dict[str, dict[str, float]]:
        """What each reward has cost, with its milliseconds per candidate."""
        found: dict[str, dict[str, float]] = {}
        for name, spent in self.reward_profile.items():
            readings, seconds = spent["readings"], spent["seconds"]
            each = round(1000 * seconds / max(1, readings), 3)
            found[name] = {"readings": readings, "seconds": round(seconds, 3), "ms_per_candidate": each}
        return found

    def counts(self) -> dict[str, int]:
        """Everything that is a plain count, by name."""
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name not in ("seconds", "reward_profile")
        }

    def add(self, counts: Mapping[str, int]) -> None:
        """Add `counts`, by name."""
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)


@dataclass(repr=False)
class Run:
    """One call of a wrapped pipeline, as every hook sees it.

    Hooks read it; only the search changes `beams` (best first), `past`, `chunk` and `cost`, and adds to `tree`. `past`:
    the beams before each of the newest chunks, oldest first, which a revision may go back to. `call` holds
    the arguments as the caller gave them and the generator behind `seed`. Setting `stop` ends the search after the
    current chunk, as if it were the last. `predictions`: the most forwards that rewards which judge with the video
    model spend on one candidate. `threads`: the CPU threads that it works with, None for the process's own.
    `background` does what a hook need not wait for; all of it is done before the end of the run is announced.
    """

    recipe: Recipe
    session: Session
    tree: Tree
    prompt: str
    seed: int
    beams: tuple[Beam, ...] = ()
    past: tuple[tuple[Beam, ...], ...] = ()
    chunk: Chunk | None = None
    cost: Cost = field(default_factory=Cost)
    call: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    stop: bool = False
    predictions: int = 0
    threads: int | None = None
    background: Background = field(default_factory=Background, repr=False)
    released: Callable[[], None] = field(default=lambda: None, repr=False)

    def __repr__(self) -> str:
        made = self.beams[0].history.index if self.beams else 0
        return f"<Run: {self.prompt!r}, seed {self.seed}, {made} of {self.session.num_chunks} chunks, {self.tree!r}>"

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

    @property
    def earliest(self) -> int:
        """The first chunk that a revision may go back to now."""
        return (self.beams[0].history.index if self.beams else 0) - len(self.past)

    @contextmanager
    def spending(self, stage: str) -> Iterator[None]:
        """Count the time and the session's transformer forwards spent inside as part of the search."""
        try:
            with self.cost.timing(stage), self.counting():
                yield
        except StopIteration as error:  # it would end the search's generators instead of the run
            raise PluginError(f"The adapter's session failed in {stage}: {described(error)}") from None

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the session's transformer forwards spent inside as part of the search."""
        before = self.session.forwards
        try:
            yield
        finally:
            self.cost.forwards += self.session.forwards - before
