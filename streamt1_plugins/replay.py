"""Replays a recorded path: one candidate per chunk, from its seed, at the cost of the plain pipeline."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.reward import Reward
from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError, unknown_name
from streamt1_plugins.pipeline import StreamPipeline
from streamt1_plugins.plugins.acting import agreed
from streamt1_plugins.plugins.given import POLICY_SECTIONS
from streamt1_plugins.process.progress import silenced
from streamt1_plugins.resuming import begin_again, check_unedited, closing_on_error, placed, together, wrap_again
from streamt1_plugins.runs.files import RECIPE, Claim
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.runs.report import strips
from streamt1_plugins.search.out_of_memory import explained
from streamt1_plugins.search.retrace import retrace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamt1_plugins.api.reward import RewardInput, RewardOutput
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Node
    from streamt1_plugins.config.schema import Recipe

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
    with begun_again(recorded, pipe, device=device, trust=trust, **call) as (wrapped, run):
        with explained(run), silenced(wrapped.pipe):
            retrace(wrapped.search(run), recorded.tree(), [path])
        yield run


@contextmanager
def begun_again(
    recorded: RecordedRun, pipe: Any = None, *, device: str | None = None, trust: bool | Recipe = False, **call: Any
) -> Iterator[tuple[StreamPipeline, Run]]:
    """(the pipeline, an open run) of a recorded one, before its first chunk and without any reward.

    Arguments as for `regenerate`.
    """
    recipe = agreed(recorded.recipe, trust, folder=recorded.folder, unused=UNUSED)
    check_unedited(recorded, trust)
    recipe, own = noise_alone(placed(recipe, recorded.folder), pipe)
    wrapped = wrap_again(recorded, recipe, pipe, device, own)
    run = begin_again(recorded, wrapped, call)
    try:
        yield wrapped, run
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
    out = user_path(out)
    recipe = agreed(recorded.recipe, trust, folder=out)
    check_unedited(recorded, trust)
    path_to(recorded, node)  # which may name nodes near it
    recorded = recorded.before_leaving(node)  # an abandoned branch is continued as it stood
    *path, last = path_to(recorded, node)
    picked = replace(last, fate="kept", rank=0)
    Claim(out, RECIPE).release()  # refused before anything is generated
    recipe = placed(recipe, out)
    wrapped = wrap_again(recorded, recipe, pipe, device, {"observers": together(record_to(out), observers)})
    run = begin_again(recorded, wrapped, call)
    with closing_on_error(run.session), silenced(wrapped.pipe):
        retrace(wrapped.search(run), recorded.tree(), [[*path, picked]])
        run.tree = recorded.tree(picked.chunk + 1)
        run.tree.returns.clear()  # they are those of the other run, as is what it abandoned of later chunks
        run.tree.nodes = {node.id: node for node in run.tree if node.chunk <= picked.chunk}
        for other in run.tree.chunk(picked.chunk):  # the picked node alone survives
            run.tree.add(replace(other, fate="pruned" if other.is_valid else "invalid", rank=None))
        run.tree.add(picked)
        run.tree.picked = node
        strips.copy(recorded.folder, out, run.tree.nodes)
        run.tree.note(f"Continues node {node} of {recorded.folder}, picked by hand.")
    return wrapped


def noise_alone(recipe: Recipe, pipe: Any) -> tuple[Recipe, dict[str, Any]]:
    """(the recipe for a path that is known, arguments of `wrap`): of all plugins, the noise policy alone takes part.

    The others may have been objects, which no record holds; scores, widths and routes are in it.
    """
    fields = type(recipe).model_fields
    unused: dict[str, Any] = {kind: fields[kind].default for kind in POLICY_SECTIONS if kind != "noise"}
    rewards = recipe.rewards.model_copy(update={horizon: {} for horizon in HORIZONS})
    recipe = recipe.model_copy(update={**unused, "rewards": rewards, "observers": {}})  # nothing is observed
    given = pipe.given.policies if isinstance(pipe, StreamPipeline) else {}
    own = {"policies": {kind: policy for kind, policy in given.items() if kind == "noise"}}
    return recipe, {**own, "rewards": {"none": _NoReward()} if recipe.search.is_wide else {}}


class _NoReward(Reward):
    """Takes the place of every reward where nothing is scored."""

    def score(self, inp: RewardInput) -> RewardOutput:
        """Never called."""
        raise NotImplementedError


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
