"""Revision: another round of candidates in a chunk, or a return to an earlier one, before anything is selected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from streamt1_plugins.api.types import Variation
from streamt1_plugins.errors import PluginError, shown
from streamt1_plugins.policies.revision import NEVER

if TYPE_CHECKING:
    from torch import Tensor

    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Chunk, Revision, RevisionLimits
    from streamt1_plugins.api.workers import Workers
    from streamt1_plugins.plugins.run_hooks import RunHooks

Level = tuple["Beam", ...]
"""The beams before a chunk."""


class Made(NamedTuple):
    """What there is of a chunk before a round of candidates: the next ordinal, which is also the next proposal of every
    beam, and the number of the round.
    """

    ordinal: int
    round: int

    @classmethod
    def before(cls, tree: Tree, chunk: int) -> Made:
        """What a tree has of a chunk, abandoned candidates included."""
        nodes = [node for node in tree if node.chunk == chunk]
        return cls(*(1 + max((getattr(node, name) for node in nodes), default=-1) for name in ("ordinal", "round")))


class Elder(NamedTuple):
    """A candidate whose noise is varied, and how; `propagated` as in its node."""

    how: Variation
    noise: Tensor
    propagated: bool


@dataclass(frozen=True)
class Round:
    """How a round of candidates is made: `count` for every beam, None for what the width policy wants.

    `elders`: by the id of the beam's last node, the candidates whose noise is varied in turn; empty where every beam
    branches from fresh noise.
    """

    count: int | None = None
    elders: Mapping[str | None, Sequence[Elder]] = field(default_factory=dict)

    @classmethod
    def of(cls, revision: Revision, pool: Sequence[Candidate]) -> Round:
        """The round that a revision wants of a chunk with these candidates."""
        by_id = {each.id: each for each in pool}
        elders: dict[str | None, list[Elder]] = {}
        for each in (by_id[name] for name in revision.varied):
            how = Variation(each.id, revision.strength, revision.draws)
            elders.setdefault(each.parent, []).append(Elder(how, each.noise, each.propagated))
        return cls(revision.count, elders)

    def branching(self, beams: Sequence[Beam]) -> list[Beam]:
        """Those of the beams that branch."""
        return [beam for beam in beams if not self.elders or _name(beam) in self.elders]

    def elder(self, beam: Beam, place: int) -> Elder | None:
        """What the proposal at this place of a beam's proposals varies, None where it is fresh noise."""
        own = self.elders.get(_name(beam), ())
        return own[place % len(own)] if own else None


FIRST = Round()


def _name(beam: Beam) -> str | None:
    return beam.last.id if beam.last else None


def newest(levels: tuple[Level, ...], reach: int | None) -> tuple[Level, ...]:
    """The newest `reach` of the levels, None for all."""
    return levels if reach is None else levels[len(levels) - reach :] if reach < len(levels) else levels


@dataclass
class Revising:
    """The revisions of a run, decided alike by all its processes."""

    run: Run
    hooks: RunHooks
    workers: Workers
    limits: RevisionLimits = NEVER

    @property
    def reach(self) -> int | None:
        """How many chunks the run may still go back, None for any number."""
        limit = self.limits.returns
        is_spent = limit is not None and len(self.run.tree.returns) >= limit
        return 0 if is_spent or self.run.is_plain else self.limits.reach

    def remember(self, beams: Level) -> None:
        """Keep the beams before the chunk that was just committed, as long as the run may go back to them."""
        self.run.past = newest((*self.run.past, beams), self.reach)

    def asked(self, chunk: Chunk, pool: Sequence[Candidate]) -> Revision | None:
        """What becomes of a chunk with these candidates instead of its selection, None for the selection.

        The first process decides for all. A run that is to stop after this chunk is not revised. Raises `PluginError`
        for an answer that cannot be followed, or is more than the policy declares.
        """
        if self.run.is_plain or not self.hooks.can_revise:
            return None
        answers = self.workers.all_gather((self.run.stop, self.hooks.revise(chunk, pool)))
        revision = answers[0][1]
        if revision is None or any(stop for stop, _ in answers):
            return None
        problem = self._problem_with_return(chunk, revision) or self._problem_with_round(pool, revision)
        if problem is not None:
            raise PluginError(f"streamt1_revise returned {shown(revision)}: {problem}.")
        for each in pool:
            self.run.tree.add(each.node())
        return revision

    def go_back(self, chunk: Chunk, revision: Revision, to: int) -> None:
        """Return to the beams before chunk `to`; what was made since stays in the tree, abandoned."""
        run, steps = self.run, chunk.index - to
        run.tree.abandon(to)
        run.tree.returns.append((chunk.index, to))
        if steps:
            run.beams, run.past = run.past[-steps], run.past[:-steps]
        run.past = newest(run.past, self.reach)
        where = f"made anew from chunk {to} on" if steps else "made anew"
        run.tree.note(f"Chunk {chunk.index}: {where} (return {len(run.tree.returns)}). {revision.reason}".rstrip())

    def _problem_with_return(self, chunk: Chunk, revision: Revision) -> str | None:
        to, tree, limits = revision.back_to, self.run.tree, self.limits
        if to is None:
            return None
        if limits.returns is not None and len(tree.returns) >= limits.returns:
            return f"the policy declares {limits.returns} returns a video at most (`limits.returns`)"
        if not isinstance(to, int) or not self.run.earliest <= to <= chunk.index:
            return (
                f"`back_to` has to be a chunk from {self.run.earliest} (`run.earliest`) to {chunk.index}; the policy "
                f"declares {limits.reach} chunks back at most (`limits.reach`)"
            )
        return None

    def _problem_with_round(self, pool: Sequence[Candidate], revision: Revision) -> str | None:
        if revision.back_to is not None:
            return None
        rounds = len({each.round for each in pool})
        if self.limits.rounds is not None and rounds >= self.limits.rounds:
            return f"the policy declares {self.limits.rounds} rounds a chunk at most (`limits.rounds`)"
        if revision.count is not None and not (isinstance(revision.count, int) and revision.count >= 1):
            return "`count` has to be a whole number of candidates, at least 1"
        known = {each.id for each in pool if each.is_finished}
        unknown = [name for name in revision.varied if name not in known]
        if unknown:
            return f"`varied` names finished candidates of this chunk ({', '.join(sorted(known))}), not {unknown[0]!r}"
        if not 0 <= revision.strength <= 1 or revision.draws not in ("initial", "all"):
            return '`strength` has to be from 0 to 1, and `draws` "initial" or "all"'
        return None
