"""Opens a recorded run again, with the same recipe, arguments and seed, and resumes it where it stopped."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins import own_call, pipeline, placement
from streamt1_plugins.errors import InputError
from streamt1_plugins.plugins.acting import agreed
from streamt1_plugins.runs.checkpoint import load_checkpoint, restored_beams
from streamt1_plugins.runs.events import versions
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.pipeline import StreamPipeline

log = logging.getLogger("streamt1")


def resume(
    folder: str | Path,
    pipe: Any = None,
    *,
    device: str | None = None,
    observers: Mapping[str, object] | None = None,
    trust: bool | Recipe = False,
    **call: Any,
) -> Any:
    """Resume an interrupted run; returns what the interrupted call would have returned.

    The rest of the tree and the video are the same, bit by bit, as without the interruption (with ``search.batch: 1``
    on the same machine and versions). pipe: needed where the model was not loaded by this package. device: where it
    runs; by default a loaded model runs where it ran before, and a given `pipe` stays where it is. observers: added, by
    name, to those that record the run. call: arguments that a journal cannot hold (embeddings, callbacks), or new
    values for others. trust: as for `wrap`; the record is a file. Raises `InputError` where there is nothing to resume,
    and `TrustError`.
    """
    wrapped = open_interrupted(folder, pipe, device=device, observers=observers, trust=trust, **call)
    return wrapped.complete(wrapped.last_run)


def open_interrupted(
    folder: str | Path,
    pipe: Any = None,
    *,
    device: str | None = None,
    observers: Mapping[str, object] | None = None,
    trust: bool | Recipe = False,
    **call: Any,
) -> StreamPipeline:
    """The pipeline of an interrupted run, with ``last_run`` where the run stopped, ready for `complete`.

    Arguments as for `resume`.
    """
    recorded = RecordedRun.read(folder)
    saved = load_checkpoint(recorded.folder)
    chunks = saved.chunks if saved else 0
    recipe = agreed(recorded.recipe, trust, folder=recorded.folder)
    recipe = placed(recipe, recorded.folder, append=True)
    recorders = record_to(recorded.folder, append=True)
    if "video" in recipe.observers:
        del recorders["video"]  # the recipe has it written elsewhere
    wrapped = wrap_again(recorded, recipe, pipe, device, {**recorders, **(observers or {})})
    run = begin_again(recorded, wrapped, call)
    with closing_on_error(run.session):
        if saved:
            run.tree = recorded.tree(chunks)
            run.beams = restored_beams(saved, recorded.folder, run.tree, run.session, run.device)
            # Last, so that nothing above can advance it.
            run.call["generator"].set_state(saved.generator)
        run.cost = recorded.cost(chunks)
    return wrapped


def wrap_again(
    recorded: RecordedRun, recipe: Recipe, pipe: Any, device: str | None, observers: Mapping[str, object]
) -> StreamPipeline:
    """A recorded run's `recipe` around the caller's pipeline, or around the recorded model where `pipe` is None."""
    _warn_of_other_versions(recorded)
    if pipe is not None:
        given = vars(pipe.given) if isinstance(pipe, pipeline.StreamPipeline) else {}
        wrapped = pipeline.wrap(pipe, recipe, adapter=recipe.adapter.name, observers=observers, **given)
        if device is not None:
            placement.place(wrapped.pipe, recipe.placement, placement.chosen(device))
        return wrapped
    if recipe.model is None:
        raise InputError(f"{recorded.folder} was made with a pipeline loaded elsewhere: pass that pipeline.")
    where = placement.chosen(device, str(recorded.start["device"]))
    return pipeline.load(recipe=recipe, device=where, observers=observers)


def begin_again(recorded: RecordedRun, wrapped: StreamPipeline, call: Mapping[str, Any]) -> Run:
    """A session with the recorded arguments, `call` added, and a fresh generator of the recorded seed."""
    start = recorded.start
    call = {**start["call"], **call}
    missing = [name for name in start["omitted"] if name not in call and name not in own_call.OWN_ARGUMENTS]
    if missing:
        raise InputError(
            f"{recorded.folder} was made with arguments a file cannot hold: pass {', '.join(missing)} again."
        )
    where = placement.checked(start["generator_device"], "The generator of the recorded run")
    generator = torch.Generator(where).manual_seed(start["seed"])
    return wrapped.begin(**{**call, "generator": generator})


def placed(recipe: Recipe, folder: Path, *, append: bool = False) -> Recipe:
    """A recorded recipe for a run in `folder`, which is another one than recorded when a run was moved or branched.

    `append`: continue what the run logged to wandb.
    """
    observers = dict(recipe.observers)
    if observers.get("wandb", {}).get("folder"):
        observers["wandb"] = {**observers["wandb"], "folder": str(folder), "append": append}
    # A run may be resumed with any number of processes.
    parallel = recipe.parallel.model_copy(update={"candidates": None, "prompts": None})
    return recipe.model_copy(update={"observers": observers, "parallel": parallel})


def _warn_of_other_versions(recorded: RecordedRun) -> None:
    now, then = versions(), recorded.start["versions"]
    changed = [f"{name} {then[name]} (now {now.get(name)})" for name in then if then[name] != now.get(name)]
    if changed:
        log.warning("%s was made with %s: results may differ.", recorded.folder, ", ".join(changed))


@contextmanager
def closing_on_error(session: Session) -> Iterator[None]:
    """Give the pipeline back as it was when the run cannot even start."""
    with ExitStack() as stack:
        stack.callback(session.close)
        yield
        stack.pop_all()
