"""Makes recorded branches again from their seeds: one candidate per recorded node, without any reward."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.types import Node
from streamt1_plugins.config.rewards import MOST
from streamt1_plugins.errors import InputError
from streamt1_plugins.process.threads import limited, stepwise
from streamt1_plugins.search.expand import Branch

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping, Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Chunk, Proposal
    from streamt1_plugins.search.loop import Search


def retrace(search: Search, tree: Tree, paths: Sequence[Sequence[Node]]) -> None:
    """Generate `paths` of the recorded `tree`, equally long and oldest node first, again from the root.

    Routes, ranks and widths are the recorded ones. The run's beams then end with the last nodes of the paths.

    Bit-equal to the recorded run where candidates were denoised one at a time (``search.batch: 1``). Raises
    `InputError` when the recipe or seed is not the one the paths were recorded with.
    """
    with limited(search.run.threads):
        _retrace(search, tree, paths)


def _retrace(search: Search, tree: Tree, paths: Sequence[Sequence[Node]]) -> None:
    run = search.run
    made: dict[str | None, Beam] = {None: Beam(run.session.root())}
    run.beams = (made[None],)
    for chunk, level in zip(run.chunks(), zip(*paths, strict=True), strict=False):
        proposed: dict[str | None, Mapping[str, Proposal]] = {}
        before, made = made, {}
        for node in {node.id: node for node in level}.values():
            beam = before[node.parent]
            if node.parent not in proposed:
                proposed[node.parent] = _proposals(search, chunk, beam, _siblings(tree, node))
            made[node.id] = search.commit(_again(search, chunk, beam, node, proposed[node.parent][node.id]))
    run.beams = tuple(made[path[-1].id] for path in paths if path) or run.beams


def remade(search: Search, tree: Tree, nodes: Collection[Node]) -> Generator[Candidate, None, None]:
    """Generate `nodes` of the recorded `tree` again, chunk by chunk; the parent of each has to be among them.

    Only those that others of them continue are committed, and the memory holds the beams of two chunks at most. As
    exact as `retrace`, and raises what that raises.
    """
    return stepwise(_remade(search, tree, nodes), search.run.threads)


def _remade(search: Search, tree: Tree, nodes: Collection[Node]) -> Generator[Candidate, None, None]:
    run, parents = search.run, {node.parent for node in nodes}
    before: dict[str | None, Beam] = {None: Beam(run.session.root())}
    run.beams = (before[None],)
    for chunk in run.chunks():
        made: dict[str | None, Beam] = {}
        proposed: dict[str | None, Mapping[str, Proposal]] = {}
        for node in sorted((each for each in nodes if each.chunk == chunk.index), key=lambda each: each.ordinal):
            beam = before[node.parent]
            if node.parent not in proposed:
                proposed[node.parent] = _proposals(search, chunk, beam, _siblings(tree, node))
            candidate = _again(search, chunk, beam, node, proposed[node.parent][node.id])
            if node.id in parents:
                made[node.id] = search.commit(candidate)
            yield candidate
        before = made


@dataclass(frozen=True)
class Siblings:
    """The recorded candidates of one beam in one chunk; `first` is the lowest ordinal that such a one can have.

    In a whole record the first of them has it, and there are as many as the noise policy proposed. What decided how
    many it should propose (a budget, a clock) is gone.
    """

    nodes: Sequence[Node]
    first: int

    def counts(self, start: int) -> Iterator[int]:
        """What the policy may have been called with where `start` is the ordinal of its first proposal, likely first.

        A policy may answer with more or fewer proposals than it was called for.
        """
        recorded = self.nodes[-1].ordinal - start + 1
        return chain([recorded], range(recorded + 1, 2 * recorded + 2), range(recorded - 1, 0, -1))

    def matched(self, proposals: Sequence[Proposal], start: int, more: int) -> dict[str, Proposal] | None:
        """The proposals by the node that was made from each, by place: seeds may be equal. None if they do not fit.

        more: how many proposals may follow that of the last node.
        """
        places = {node.id: node.ordinal - start for node in self.nodes}
        if not 0 <= len(proposals) - 1 - max(places.values()) <= more:
            return None
        fits = all(proposals[places[node.id]].seed == node.seed for node in self.nodes)
        return {name: proposals[place] for name, place in places.items()} if fits else None


def _siblings(tree: Tree, node: Node) -> Siblings:
    own = sorted(tree.children(node.parent), key=lambda each: each.ordinal)
    others = [each.ordinal for each in tree.chunk(node.chunk) if each.parent != node.parent]
    return Siblings(own, max((ordinal for ordinal in others if ordinal < own[0].ordinal), default=-1) + 1)


def _proposals(search: Search, chunk: Chunk, beam: Beam, siblings: Siblings) -> Mapping[str, Proposal]:
    """The proposals that recorded candidates of a beam were made from, by the candidates' ids.

    Raises `InputError` where the noise policy no longer makes them, and where candidates are lost from a damaged
    record and the others' seeds fit in two ways.
    """
    found: list[Mapping[str, Proposal]] = []
    for start in range(siblings.first, siblings.nodes[0].ordinal + 1):
        tried = (
            siblings.matched(search.expander.propose(chunk, beam, count), start, more)
            for more in (0, MOST)  # the second one where the last candidates are lost from the record
            for count in siblings.counts(start)
        )
        found += islice((each for each in tried if each is not None), 1)
    names = ", ".join(node.id for node in siblings.nodes)
    if not found:
        seeds = ", ".join(dict.fromkeys(str(node.seed) for node in siblings.nodes))
        raise InputError(
            f"Candidates {names} were made from seeds {seeds}, which this recipe and seed {search.run.seed} do not "
            "lead to. Replay with the recipe and the versions that the run folder records."
        )
    if any(not torch.equal(each[name].noise, found[0][name].noise) for each in found[1:] for name in each):
        raise InputError(
            f"Candidates {names} cannot be made again: others of their chunk are lost from the record, and the noise "
            "policy gives several candidates one seed. Continue from an earlier chunk."
        )
    return found[0]


def _again(search: Search, chunk: Chunk, beam: Beam, node: Node, proposal: Proposal) -> Candidate:
    expander = replace(search.expander, previews=None)  # nothing is scored
    candidate = expander.denoise(chunk, beam, [Branch(node.ordinal, beam, proposal)])[0]
    return replace(candidate, **{item.name: getattr(node, item.name) for item in fields(Node)})
