"""Makes recorded branches again from their seeds: one candidate per recorded node, without any reward."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.types import Node
from streamt1_plugins.errors import InputError
from streamt1_plugins.process.threads import limited
from streamt1_plugins.search.expand import Branch

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        proposed: dict[str | None, Sequence[Proposal]] = {}
        before, made = made, {}
        for node in {node.id: node for node in level}.values():
            beam = before[node.parent]
            if node.parent not in proposed:
                proposed[node.parent] = search.expander.propose(chunk, beam, width(tree, node))
            made[node.id] = _again(search, chunk, beam, node, proposed[node.parent])
    run.beams = tuple(made[path[-1].id] for path in paths if path) or run.beams


def width(tree: Tree, node: Node) -> int:
    """How many candidates the parent of a node branched into; what decided that (a budget, a clock) is gone.

    At most one more for each candidate beside them that is lost from a damaged record.
    """
    others = [each.ordinal for each in tree.chunk(node.chunk) if each.parent != node.parent]
    own = [each.ordinal for each in tree.children(node.parent)]
    first = max((ordinal for ordinal in others if ordinal < min(own)), default=-1) + 1
    return max(own) - first + 1


def _again(search: Search, chunk: Chunk, beam: Beam, node: Node, proposals: Sequence[Proposal]) -> Beam:
    proposal = next((each for each in proposals if each.seed == node.seed), None)
    if proposal is None:
        raise InputError(
            f"Node {node.id} was made from seed {node.seed}, which this recipe and seed {search.run.seed} do not lead "
            "to. Replay with the recipe and the versions that the run folder records."
        )
    candidate = search.expander.denoise(chunk, beam, [Branch(node.ordinal, beam, proposal)])[0]
    return search.commit(replace(candidate, **{item.name: getattr(node, item.name) for item in fields(Node)}))
