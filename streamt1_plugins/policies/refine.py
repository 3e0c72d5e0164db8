"""Refine: later rounds of a chunk's candidates vary the noise of the best ones so far (the mutation of EvoSearch).

With b the share of fresh noise and eps standard normal, a candidate of a later round starts from

    z' = sqrt(1 - b^2) z + b eps

where z is the noise of the best candidate of its beam, whatever its round. z' is standard normal like z, so the model
sees noise as it was trained on; at b = 1 the round is a fresh one. EvoSearch (arXiv 2505.17618) mutates the best of a
population in this way.

Cost: the rounds share the width of a chunk, so the forwards are those of a search with as many candidates in one round.
Later rounds wait for the judgement of the one before, so fewer candidates are denoised together, and every reward is
called once a round. Early pruning and stages of rewards pass on a share of each round, never fewer than
`search.top_k`, which may be more than of all candidates at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.api.types import Draws, Revision, RevisionLimits
from streamt1_plugins.policies.revision import share

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, Node


def best_of_each(candidates: Sequence[Node]) -> list[str]:
    """The best finished candidate of every parent, by id; one that can survive before those that cannot."""
    found: dict[str | None, Node] = {}
    for each in sorted(candidates, key=_merit):
        if each.is_finished:
            found.setdefault(each.parent, each)
    return sorted(each.id for each in found.values())


def _merit(node: Node) -> tuple[bool, float, int]:
    return not node.is_eligible, -node.score if node.is_scored else 0.0, node.ordinal


@dataclass(frozen=True)
class Refine:
    """Makes the candidates of a chunk in `rounds`, each after the first from the best of every beam so far.

    rounds: how many share the width of a chunk; a width below it has fewer. b: share of fresh noise, 1 is fresh noise
    only. draws: what is varied, `all` draws of a sampler that takes them from its session, or the `initial` noise
    alone.
    """

    needs_frames: ClassVar[bool] = False
    needs_search: ClassVar[bool] = True

    rounds: Annotated[int, Field(ge=2, le=100)] = 2
    b: Annotated[float, Field(gt=0, le=1)] = 0.5
    draws: Draws = "all"

    @property
    def limits(self) -> RevisionLimits:
        """No return; the rounds share the width."""
        return RevisionLimits(reach=0, returns=0, rounds=self.rounds, shared=True)

    @hookimpl(wrapper=True)
    def streamt1_width(self, run: Run, chunk: Chunk) -> Generator[None, int, int]:
        """This round's share of the width."""
        width = yield
        made = len({node.round for node in run.tree.chunk(chunk.index)})
        return share(width, self.rounds)[made] if made < self.rounds else 0

    @hookimpl
    def streamt1_revise(self, candidates: Sequence[Node]) -> Revision | None:
        """The next round, until there are enough of them."""
        best = best_of_each(candidates)
        if not best or len({each.round for each in candidates}) >= self.rounds:
            return None
        return Revision(varied=tuple(best), strength=self.b, draws=self.draws)
