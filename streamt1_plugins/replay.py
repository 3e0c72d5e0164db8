"""Replays a recorded path: one candidate per chunk, from its seed, at the cost of the plain pipeline."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.api.types import Node
from streamt1_plugins.errors import InputError, unknown_name
from streamt1_plugins.plugins.acting import agreed
from streamt1_plugins.resuming import begin_again, closing_on_error, placed, wrap_again
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.runs.report import strips
from streamt1_plugins.search.expand import Branch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.search.loop import Search

UNUSED = ("rewards", "observers")
"""Sections of a recipe that do nothing in a replay."""


def regenerate(
    folder: str | Path,
    node: str | None = None,
    pipe: Any = None,
    *,
    device: str | None = None,
    trust: bool | Recipe = False,
    **call: Any,
) -> Any:
    """The video of a recorded run up to `node` (None: the winner), made again from seeds, without any reward.

    Returns what the recorded call returned, with the chunks up to that node. Other arguments as for `resume`.
    Raises `InputError` or `UnknownNameError` where the run or the node does not exist.
    """
    with replayed(folder, node, pipe, device=device, trust=trust, **call) as run:
        return run.session.finish(run.beams[0].history)


@contextmanager
def replayed(
    folder: str | Path,
    node: str | None = None,
    pipe: Any = None,
    *,
    device: str | None = None,
    trust: bool | Recipe = False,
    **call: Any,
) -> Iterator[Run]:
    """An open run whose single beam ends with `node` of a recorded one. Arguments as for `regenerate`."""
    recorded = RecordedRun.read(folder)
    path = path_to(recorded, node)
    recipe = agreed(recorded.recipe, trust, folder=recorded.folder, unused=UNUSED)
    wrapped = wrap_again(recorded, placed(recipe, recorded.folder), pipe, device, {})
    run = begin_again(recorded, wrapped, call)
    try:
        follow(wrapped.search(run), recorded.tree(), path)
        yield run
    finally:
        run.close()


def branch(
    folder: str | Path,
    node: str,
    out: str | Path,
    pipe: Any = None,
    *,
    device: str | None = None,
    observers: Mapping[str, object] | None = None,
    trust: bool | Recipe = False,
    **call: Any,
) -> StreamPipeline:
    """A new run in the folder `out` that continues `node` of a recorded one, whatever the rewards preferred.

    Returns the pipeline; ``pipe.complete(pipe.last_run)`` searches the chunks after that node. Other arguments as for
    `resume`.
    """
    recorded = RecordedRun.read(folder)
    *path, last = path_to(recorded, node)
    picked = replace(last, fate="kept", rank=0)
    recipe = placed(agreed(recorded.recipe, trust, folder=Path(out)), Path(out))
    wrapped = wrap_again(recorded, recipe, pipe, device, {**record_to(out), **(observers or {})})
    run = begin_again(recorded, wrapped, call)
    with closing_on_error(run.session):
        follow(wrapped.search(run), recorded.tree(), [*path, picked])
        run.tree = recorded.tree(picked.chunk + 1)
        for other in run.tree.chunk(picked.chunk):  # the picked node alone survives
            run.tree.add(replace(other, fate="pruned" if other.is_valid else "invalid", rank=None))
        run.tree.add(picked)
        strips.copy(recorded.folder, Path(out), run.tree.nodes)
        run.tree.note(f"Continues node {node} of {recorded.folder}, picked by hand.")
    return wrapped


def path_to(recorded: RecordedRun, node: str | None) -> list[Node]:
    """The recorded nodes from the first chunk to `node`; None is the winner, or the best branch of a run cut short."""
    if node is None:
        if not recorded.winner:
            raise InputError(f"{recorded.folder} has no finished chunk to replay.")
        return list(recorded.winner)
    tree = recorded.tree()
    if node not in tree.nodes:
        raise unknown_name(f"node of {recorded.folder}", node, tree.nodes)
    return list(tree.path(node))


def follow(search: Search, tree: Tree, path: Sequence[Node]) -> None:
    """Regenerate a `path` of the recorded `tree` (oldest first) from the root, without any reward.

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
        proposal = next((each for each in proposals if each.seed == node.seed), None)
        if proposal is None:
            raise InputError(
                f"Node {node.id} was made from seed {node.seed}, which this recipe and seed {run.seed} do not lead to. "
                "Replay with the recipe and the versions that the run folder records."
            )
        candidate = search.expander.denoise(chunk, beam, [Branch(node.ordinal, beam, proposal)])[0]
        recorded = {item.name: getattr(node, item.name) for item in fields(Node)}
        run.beams = (search.commit(replace(candidate, **recorded)),)
