"""One call of a wrapped pipeline, and what it has cost so far."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.types import Chunk
from streamt1_plugins.api.workers import SingleProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.config.schema import Recipe


@dataclass
class Cost:
    """What a run has spent: counts, and seconds by stage (`generate`, `decode`, `reward`, `commit`).

    `readings`: verdicts of one reward on one candidate; one call of a reward gives many. `readings_saved`: those that
    a cascade of rewards, or an early look, did not have to ask for.
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


@dataclass
class Run:
    """One call of a wrapped pipeline, as every hook sees it.

    Hooks read it; only the search changes `beams` (best first), `chunk` and `cost`, and adds to `tree`. `call` holds
    the arguments as the caller gave them and the generator behind `seed`. Whoever sets `stop` ends the search after the chunk at hand, as if it were the last.
    `team`: the processes that share the candidates. `batch_limit`: how many memory turned out to hold at once.
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
    team: Workers = field(default_factory=SingleProcess)
    batch_limit: int | None = None

    @property
    def is_plain(self) -> bool:
        """One candidate per chunk: nothing to search, so the plain pipeline's own noise stream is used."""
        return not self.recipe.search.is_wide

    def chunks(self) -> Iterator[Chunk]:
        """The chunks still to come, in order."""
        done = self.beams[0].history.index if self.beams else 0
        return (Chunk(index, self.session.num_chunks) for index in range(done, self.session.num_chunks))


def names(run: Run, ordinals: Iterable[int]) -> str:
    """Candidates of the chunk at hand by name: ``candidate 003.01``."""
    chunk = run.chunk.index if run.chunk else 0
    return "candidate " + ", ".join(f"{chunk:03d}.{ordinal:02d}" for ordinal in ordinals)
