"""How many candidates a beam branches into: a fixed number, and the bounds of policies that decide for themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.adapter import Outline
    from streamt1_plugins.api.candidate import Beam
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.config.schema import EarlySettings, Recipe, SearchSettings


def places(beam: Beam, search: SearchSettings) -> int:
    """How many beams a beam stands for: the empty video for all of them, so that every chunk is equally wide."""
    return 1 if beam.path else search.top_k


def rest_of(outline: Outline, chunk: int, early: EarlySettings) -> int:
    """Forwards that a candidate saves where it is pruned early in a chunk: those of its other steps; 0 for none."""
    if not early.steps or not outline.steps:
        return 0
    steps = outline.steps[chunk]
    return outline.generate[chunk] * max(0, steps - early.steps_of(steps)) // steps


@runtime_checkable
class Bounded(Protocol):
    """A width policy with known bounds. Optional: cost estimates use them."""

    @property
    def forwards(self) -> int | None:
        """Transformer forwards it does not exceed in a video, if its narrowest width does not; None for any number."""

    def bounds(self, search: SearchSettings) -> tuple[int, int]:
        """(narrowest, widest), in candidates per beam."""


@runtime_checkable
class Scheduled(Protocol):
    """A width policy that is fixed before the run, chunk by chunk. Optional: cost estimates are then exact."""

    def schedule(self, recipe: Recipe, outline: Outline) -> Sequence[int]:
        """Candidates per beam in every chunk of a call."""


def widest(policy: object, search: SearchSettings) -> int:
    """The most candidates per beam, `search.candidates` where the policy has no bounds."""
    return policy.bounds(search)[1] if isinstance(policy, Bounded) else search.candidates


@dataclass(frozen=True)
class FixedWidth:
    """`search.candidates` for each beam, `candidates * top_k` in the first chunk that is searched."""

    forwards: ClassVar[int | None] = None

    def bounds(self, search: SearchSettings) -> tuple[int, int]:
        return search.candidates, search.candidates

    @hookimpl
    def streamt1_width(self, run: Run, beam: Beam) -> int:
        return run.recipe.search.candidates * places(beam, run.recipe.search)
