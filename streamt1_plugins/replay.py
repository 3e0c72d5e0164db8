"""Walking a recorded path again: one candidate per chunk, from its seed, at the cost of the plain pipeline."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.types import Node
from streamt1_plugins.errors import InputError, unknown_name
from streamt1_plugins.resuming import Opening, Record, closing_on_error
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.report import strips
from streamt1_plugins.search.expand import Branch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Proposal
    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.search.loop import Search


def regenerate(folder: str | Path, node: str | None = None, opening: Opening | None = None) -> Any:
    """The video of a recorded run up to `node` (None: the winner), made again from seeds; nothing is measured.

    Returns what the recorded call returned, with the chunks up to that node. Raises `InputError` or
    `UnknownNameError` where the run or the node is not there.
    """
    with walked(folder, node, opening) as run:
        return run.session.finish(run.beams[0].history)


@contextmanager
def walked(folder: str | Path, node: str | None = None, opening: Opening | None = None) -> Iterator[Run]:
    """An open run with one beam that stands on `node` of a recorded one."""
    opening = opening or Opening()
    record = Record.read(folder)
    path = path_to(record, node)
    wrapped = record.pipeline(opening, {}, record.folder)
    run = record.begin(wrapped, opening)
    try:
        follow(wrapped.search(run), record.tree(), path)
        yield run
    finally:
        run.session.close()


def branch(folder: str | Path, node: str, out: str | Path, opening: Opening | None = None) -> StreamPipeline:
    """A new run in the folder `out` that stands on `node` of a recorded one, whoever the rewards preferred.

    Returns the pipeline; ``pipe.complete(pipe.last_run)`` searches on from there.
    """
    opening = opening or Opening()
    record = Record.read(folder)
    path = path_to(record, node)
    wrapped = record.pipeline(opening, record_to(out), Path(out))
    run = record.begin(wrapped, opening)
    with closing_on_error(run):
        path = [*path[:-1], replace(path[-1], fate="kept", rank=0)]
        follow(wrapped.search(run), record.tree(), path)
        run.tree = _picked(record.tree(path[-1].chunk + 1), path[-1])
        strips.copy(record.folder, Path(out), run.tree.nodes)
        run.tree.note(f"Goes on from node {node} of {record.folder}, picked by hand.")
    return wrapped


def path_to(record: Record, node: str | None) -> list[Node]:
    """The recorded nodes from the first chunk to `node`; None is the winner, or the best branch of a run cut short."""
    tree = record.tree()
    if node is None:
        node = tree.winner[-1] if tree.winner else _best_so_far(record, tree)
    if node not in tree.nodes:
        raise unknown_name(f"node of {record.folder}", node, tree.nodes)
    return list(tree.path(node))


def _best_so_far(record: Record, tree: Tree) -> str:
    kept = [node for node in tree if node.rank == 0]
    if not kept:
        raise InputError(f"{record.folder} has no finished chunk to replay.")
    return kept[-1].id


def _picked(tree: Tree, picked: Node) -> Tree:
    """The tree up to the picked node's chunk, in which it alone survives."""
    for node in tree.chunk(picked.chunk):
        tree.add(replace(node, fate="pruned" if node.is_valid else "invalid", rank=None))
    tree.add(picked)
    return tree


def follow(search: Search, tree: Tree, path: Sequence[Node]) -> None:
    """Regenerate a `path` of the recorded `tree` (oldest first) from the root; nothing is evaluated.

    Routes, ranks and widths are the recorded ones. The run's one beam then ends with the last node of the path.

    Bit-equal to the recorded run where candidates were denoised one at a time (``search.batch: 1``). Raises
    `InputError` when the recipe or seed is not the one the path was recorded with.
    """
    run = search.run
    run.beams = (Beam(run.session.root()),)
    for node, chunk in zip(path, run.chunks(), strict=False):
        beam = run.beams[0]
        # As wide as it was: what decided that (a budget, a clock) is gone.
        proposals = search.expander.propose(chunk, beam, len(tree.children(node.parent)))
        branch = Branch(node.ordinal, beam, _recorded(run, proposals, node))
        candidate = search.expander.denoise(chunk, beam, [branch])[0]
        recorded = {item.name: getattr(node, item.name) for item in fields(Node)}
        run.beams = (search.commit(replace(candidate, **recorded)),)


def _recorded(run: Run, proposals: Sequence[Proposal], node: Node) -> Proposal:
    for proposal in proposals:
        if proposal.seed == node.seed:
            return proposal
    raise InputError(
        f"Node {node.id} was made from seed {node.seed}, which this recipe and seed {run.seed} do not lead to. "
        "Replay with the recipe and the versions that the run folder records."
    )
