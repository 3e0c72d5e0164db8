"""Makes recorded branches again from their seeds: one candidate per recorded node, without any reward."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from itertools import chain, islice, product
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.types import Node
from streamt1_plugins.config.rewards import MOST
from streamt1_plugins.errors import InputError
from streamt1_plugins.process.threads import limited, stepwise
from streamt1_plugins.search.expand import Branch
from streamt1_plugins.search.revise import Elder

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping, Sequence

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Chunk, Proposal
    from streamt1_plugins.search.loop import Search
    from streamt1_plugins.search.revise import Level


def retrace(search: Search, tree: Tree, paths: Sequence[Sequence[Node]], levels: int = 0) -> None:
    """Generate `paths` of the recorded `tree`, equally long and oldest node first, again from the root.

    Routes, ranks and widths are the recorded ones. The run's beams then end with the last nodes of the paths, and its
    past has the survivors of so many chunks before, `levels`.

    Bit-equal to the recorded run where candidates were denoised one at a time (``search.batch: 1``). Raises
    `InputError` when the recipe or seed is not the one the paths were recorded with.
    """
    with limited(search.run.threads):
        _retrace(search, tree, paths, levels)


def _retrace(search: Search, tree: Tree, paths: Sequence[Sequence[Node]], levels: int) -> None:
    run, last = search.run, paths[0][-1].chunk if paths and paths[0] else -1
    wanted = _by_chunk([*(tree.path(node.id) for back in range(levels) for node in tree.kept(last - 1 - back)), *paths])
    made: dict[str | None, Beam] = {None: Beam(run.session.root())}
    run.beams = (made[None],)
    past: list[Level] = []
    for chunk in run.chunks():
        if chunk.index not in wanted:
            break
        if chunk.index > last - levels:
            survivors = tree.kept(chunk.index - 1)
            past.append(tuple(made[node.id] for node in survivors) or (made[None],))
        proposals = _Proposals(search, tree, chunk)
        before, made = made, {}
        for node in wanted[chunk.index].values():
            beam = before[node.parent]
            made[node.id] = search.commit(_again(search, chunk, beam, node, proposals.of(node, beam)))
    run.past = tuple(past)
    run.beams = tuple(made[path[-1].id] for path in paths if path) or run.beams


def remade(search: Search, tree: Tree, nodes: Collection[Node]) -> Generator[Candidate, None, None]:
    """Generate `nodes` of the recorded `tree` again, chunk by chunk; the parent of each has to be among them.

    Only those that others of them continue are committed, and the memory holds the beams of two chunks at most. As
    exact as `retrace`, and raises what that raises.
    """
    return stepwise(_remade(search, tree, nodes), search.run.threads)


def _remade(search: Search, tree: Tree, nodes: Collection[Node]) -> Generator[Candidate, None, None]:
    run, parents, wanted = search.run, {node.parent for node in nodes}, _by_chunk([tuple(nodes)])
    before: dict[str | None, Beam] = {None: Beam(run.session.root())}
    run.beams = (before[None],)
    for chunk in run.chunks():
        made: dict[str | None, Beam] = {}
        proposals = _Proposals(search, tree, chunk)
        for node in sorted(wanted.get(chunk.index, {}).values(), key=lambda each: each.ordinal):
            beam = before[node.parent]
            candidate = _again(search, chunk, beam, node, proposals.of(node, beam))
            if node.id in parents:
                made[node.id] = search.commit(candidate)
            yield candidate
        before = made


def _by_chunk(paths: Sequence[Sequence[Node]]) -> dict[int, dict[str, Node]]:
    """The nodes of paths by chunk and id; of two records of one node the later counts."""
    found: dict[int, dict[str, Node]] = {}
    for node in chain.from_iterable(paths):
        found.setdefault(node.chunk, {})[node.id] = node
    return found


@dataclass(frozen=True)
class Siblings:
    """The recorded candidates of one beam in one round of a chunk; `first` is the lowest ordinal that such a one can
    have. `used`: how many proposals earlier rounds of the chunk may have used, likely first.

    In a whole record the first of them has it, and there are as many as the noise policy proposed. What decided how
    many it should propose (a budget, a clock) is gone.
    """

    nodes: Sequence[Node]
    first: int
    used: Sequence[int] = (0,)

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
    chunk = [each for each in tree if each.chunk == node.chunk]
    own = sorted((each for each in chunk if _group(each) == _group(node)), key=lambda each: each.ordinal)
    others = [each.ordinal for each in chunk if _group(each) != _group(node)]
    first = max((ordinal for ordinal in others if ordinal < own[0].ordinal), default=-1) + 1
    earlier = max((each.ordinal for each in chunk if each.round < node.round), default=-1) + 1
    begun = min(each.ordinal for each in chunk if each.round == node.round)
    return Siblings(own, first, range(begun, earlier - 1, -1) if node.round else (0,))


def _group(node: Node) -> tuple[str | None, int]:
    """What candidates have in common whose noise was proposed together."""
    return node.parent, node.round


@dataclass
class _Proposals:
    """What the recorded candidates of one chunk were made from."""

    search: Search
    tree: Tree
    chunk: Chunk
    _found: dict[tuple[str | None, int], Mapping[str, Proposal]] = field(default_factory=dict)

    def of(self, node: Node, beam: Beam) -> Proposal:
        """The proposal of a candidate of `beam`. Raises `InputError` where it cannot be made again."""
        group = _group(node)
        if group not in self._found:
            self._found[group] = _proposals(self.search, self.chunk, beam, _siblings(self.tree, node))
        fresh, how = self._found[group][node.id], node.varies
        if how is None:
            return fresh
        elder = self.tree.nodes.get(how.of)
        if elder is None or (elder.chunk, elder.parent) != (node.chunk, node.parent) or elder.round >= node.round:
            raise InputError(f"Candidate {node.id} cannot be made again: {how.of}, whose noise it varies, is lost.")
        noise = self.of(elder, beam).noise
        return self.search.expander.vary(fresh, beam, Elder(how, noise, node.propagated))


def _proposals(search: Search, chunk: Chunk, beam: Beam, siblings: Siblings) -> Mapping[str, Proposal]:
    """The proposals that recorded candidates of a beam were made from, by the candidates' ids.

    Raises `InputError` where the noise policy no longer makes them, and where candidates are lost from a damaged
    record and the others' seeds fit in two ways.
    """
    found: list[Mapping[str, Proposal]] = []
    for used, start in product(siblings.used, range(siblings.first, siblings.nodes[0].ordinal + 1)):
        tried = (
            siblings.matched(search.expander.propose(chunk, beam, count, used), start, more)
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
