"""Opens a recorded run again, with the same recipe, arguments and seed, and resumes it where it stopped."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins import own_call, pipeline
from streamt1_plugins.config import load as recipes
from streamt1_plugins.config.merge import flat
from streamt1_plugins.errors import InputError, PluginError, RecipeError, UnknownNameError, foreign_code
from streamt1_plugins.plugins.acting import agreed
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.plugins.given import check_mapping
from streamt1_plugins.process import placement
from streamt1_plugins.process.progress import silenced
from streamt1_plugins.runs import way_on
from streamt1_plugins.runs.checkpoint import (
    CheckpointFiles,
    load_checkpoint,
    load_latents,
    load_unsettled,
    restored_beams,
)
from streamt1_plugins.runs.events import versions
from streamt1_plugins.runs.files import JOURNAL, MEGABYTE, RECIPE, STATE, Claim, check_plain, read_file
from streamt1_plugins.runs.journal import decisive
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.runs.observers.record import recorders
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.search.distributed.launch import is_launched
from streamt1_plugins.search.retrace import retrace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.runs.checkpoint import Checkpoint
    from streamt1_plugins.runs.journal import Event
    from streamt1_plugins.search.loop import Search

SHOWN = 6
"""Edited keys that a message lists."""

log = logging.getLogger("streamt1")

PLACES = ("path", "append")
"""Options of the observers that record a run."""


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
    on the same machine and versions). pipe: needed where the model was not loaded by this package; one that is wrapped
    with objects (`rewards`, `policies`) brings those again. device: where it
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
    recipe = agreed(recorded.recipe, trust, folder=recorded.folder)
    if not is_launched():  # else the first of several processes claims the folder when the search starts
        Claim(recorded.folder).release()
    check_unedited(recorded, trust, resumes=True)
    recipe = placed(recipe, recorded.folder, append=True)
    recording = recorders(recorded.folder, recipe.observers, append=True) | {"journal": _journal(recorded)}
    wrapped = wrap_again(recorded, recipe, pipe, device, {"observers": together(recording, observers)})
    run = begin_again(recorded, wrapped, call)
    with closing_on_error(run.session), silenced(wrapped.pipe):
        restore(recorded, wrapped, run)
    return wrapped


def together(recording: Mapping[str, object], observers: Mapping[str, object] | None) -> dict[str, object]:
    """The observers that record a run, with the caller's. Raises `InputError` where those map no names to objects."""
    check_mapping("observers", observers or {}, discovery().policies["observer"])
    return {**recording, **(observers or {})}


def _journal(recorded: RecordedRun) -> Journal:
    """The observer that continues a journal, if nothing else has until the search starts."""
    journal = Journal(str(recorded.folder), append=True)
    journal.known_end = recorded.end
    return journal


def restore(recorded: RecordedRun, wrapped: StreamPipeline, run: Run) -> None:
    """Bring an open run to where the recorded one stopped: from its checkpoint, or where that is damaged, from seeds.

    Raises `InputError` where what comes from seeds is not what was recorded.
    """
    done, state = recorded.whole, run.call["generator"].get_state()
    saved, problem = None, None
    try:
        saved = _checkpoint(recorded, done)
        if saved is not None:
            _from_checkpoint(recorded, saved, run)
        elif not done and recorded.returns:
            run.tree = recorded.tree(0)
    except (InputError, PluginError) as error:
        saved, problem = None, str(error)
    if problem is not None:
        found = f"The first {done} are made again from their seeds" if done else "The search starts again"
        log.warning("%s %s: no more chunks are whole in the journal of %s.", problem, found, recorded.folder)
        run.call["generator"].set_state(state)
        _from_seeds(recorded, done, wrapped.search(run))
    run.cost = recorded.cost(saved.chunks if saved else done if problem else 0)


def _checkpoint(recorded: RecordedRun, done: int) -> Checkpoint | None:
    """The checkpoint of one of the first `done` chunks, None where no chunk was committed with one.

    Raises `InputError` where it is damaged, or not the one that the journal records.
    """
    newest = load_unsettled(recorded.folder)
    if newest is not None and _problem_with(newest, recorded, done) is None:
        return newest
    saved, lost = load_checkpoint(recorded.folder), f"The checkpoint in {recorded.folder / STATE}"
    if saved is not None and not done and recorded.returns:
        return None  # the process was killed before it deleted the one that it had when it went back to the start
    if saved is None:
        if len(recorded.tree(done).chunks()) > 1:
            raise InputError(f"{lost} is missing.")
        return None  # the process was killed before it wrote the first one
    problem = _problem_with(saved, recorded, done)
    if problem is not None:
        raise InputError(f"{lost} {problem}.")
    return saved


def _problem_with(saved: Checkpoint, recorded: RecordedRun, done: int) -> str | None:
    """Why a checkpoint is none of the first `done` chunks, None where it is."""
    if saved.chunks > done:
        return f"is of chunk {saved.chunks - 1}, which is not whole in the journal"
    line = _line_before(recorded, saved.chunks)
    if list(saved.beams) != line.get("kept", [*saved.beams]) or line.get("checkpoint", saved.digest) != saved.digest:
        return f"is not the one that the journal records for chunk {saved.chunks - 1}"
    return None


def _line_before(recorded: RecordedRun, chunks: int) -> Event:
    """The newest line after which so many chunks were committed: that of the last one, or of a return behind it."""
    return next(
        each
        for each in reversed(recorded.events)
        if (each["event"] == "chunk" and each["chunk"] == chunks - 1)
        or (each["event"] == "returned" and each["chunk"] == chunks)
    )


def _from_checkpoint(recorded: RecordedRun, saved: Checkpoint, run: Run) -> None:
    tree = recorded.tree(saved.chunks)
    latents = load_latents(recorded.folder, saved, tree)
    unchecked = foreign_code(f"Continuing from the checkpoint in {recorded.folder / STATE}")  # of an older version
    with nullcontext() if saved.files else unchecked:
        *past, beams = restored_beams(saved, latents, tree, run.session, run.device)
        # Last, so that nothing above can advance it.
        run.call["generator"].set_state(saved.generator)
    run.tree, run.beams, run.past = tree, beams, tuple(past)


def _from_seeds(recorded: RecordedRun, done: int, search: Search) -> None:
    """Make the first `done` chunks of a record again, and compare them with the digest of their checkpoint."""
    run, tree = search.run, recorded.tree(done)
    kept = [node.id for node in tree.kept(done - 1)]
    if tree.returns:
        run.tree = tree
    if not kept:
        return
    run.tree = tree
    paths, first = [tree.path(name) for name in kept], tree.nodes[tree.picked].chunk + 1 if tree.picked else 0
    reach, most = search.revising.reach, min(len(paths[0]), done - first)
    retrace(search, tree, paths, most if reach is None else min(reach, most))
    line = _line_before(recorded, done)
    made = CheckpointFiles(recorded.folder).of(run.beams, run.call["generator"], run.past)
    if line.get("checkpoint", made.digest) != made.digest:
        raise InputError(
            f"{recorded.folder} cannot be resumed with the same result: its checkpoint is damaged, and chunks 0 to "
            f"{done - 1}, made again from their seeds, differ from the recorded ones (another machine, other versions, "
            f"or search.batch above 1). A new run can continue any node of it: "
            f"{way_on.continue_with(recorded.folder, kept[0])}"
        )


def check_unedited(recorded: RecordedRun, trust: bool | Recipe = False, *, resumes: bool = False) -> None:
    """Raise `InputError` where the journal's first line leads to another video than the one it was written for.

    `trust`: True for a caller who wants the video that the line leads to now, whatever recipe.yaml has.
    An edited recipe.yaml is a warning that names the keys, and an error before a run `resumes` without that edit.
    """
    if recorded.edited and trust is not True:
        raise InputError(
            f"The first line of {recorded.folder / JOURNAL} was changed after it was written: its recipe, prompt, seed "
            "or arguments lead to another video. Restore the line, or start a new run; --trust (trust=True) uses the "
            "line as it is."
        )
    path = recorded.folder / RECIPE
    then = recorded.recipe.model_dump(mode="json")
    try:
        now = _written_recipe(path) or then
        changed, matters = _differences(then, now), decisive(then) != decisive(now)
    except RecipeError as error:
        changed, matters = [str(error)], True
    if changed:
        problem = f"{path} was edited: {'; '.join(changed)}. A run keeps the recipe it was started with"
        if matters and resumes and trust is not True:
            raise InputError(
                f"{problem}. Undo the edit, or delete the file and it is written again. To apply the edit, start a new "
                f"run: {way_on.start_with(path)}"
            )
        log.warning("%s, so the edit has no effect.", problem)


def _written_recipe(path: Path) -> dict[str, Any] | None:
    """The data of a run folder's recipe.yaml, None where there is none. Raises `InputError` and `RecipeError`."""
    check_plain(path)
    if not path.exists():
        return None
    text = read_file(path, MEGABYTE).decode("utf-8", "replace")
    return recipes.written(text, str(path)).model_dump(mode="json")


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    before, after = flat(then), flat(now)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    found = [f"{key} = {after.get(key)!r}, recorded as {before.get(key)!r}" for key in keys[:SHOWN]]
    return [*found, f"{len(keys) - SHOWN} more"] if len(keys) > SHOWN else found


def wrap_again(
    recorded: RecordedRun, recipe: Recipe, pipe: Any, device: str | None, own: Mapping[str, Any]
) -> StreamPipeline:
    """A recorded run's `recipe` around the caller's pipeline, or around the recorded model where `pipe` is None.

    own: arguments of `wrap` besides the recipe. Objects that a wrapped `pipe` was given stand in for those that are
    not among them. Raises `UnknownNameError` where the run was made with objects that are not there.
    """
    _warn_of_other_versions(recorded)
    if pipe is None and recipe.model is None:
        raise InputError(
            f"{recorded.folder} was made with a pipeline loaded elsewhere, which no file holds. Pass it in Python: "
            f"{way_on.in_python(recorded.folder)}."
        )
    given = vars(pipe.given) if isinstance(pipe, pipeline.StreamPipeline) else {}
    with _objects_explained(recorded):
        if pipe is None:
            where = placement.chosen(device, str(recorded.start["device"]))
            return pipeline.load(recipe=recipe, device=where, **own)
        wrapped = pipeline.wrap(pipe, recipe, adapter=recipe.adapter.name, **{**given, **own})
    if device is not None:
        placement.place(wrapped.pipe, recipe.placement, placement.chosen(device))
    return wrapped


@contextmanager
def _objects_explained(recorded: RecordedRun) -> Iterator[None]:
    """Where a name of the record is unknown, add how objects are passed again: a record holds only their names."""
    try:
        yield
    except UnknownNameError as error:
        folder = recorded.folder
        raise UnknownNameError(
            f"{error} If {folder} was made with objects (rewards=..., policies=...), pass a pipeline that is wrapped "
            f'with them: streamt1_plugins.resume("{folder}", wrapped).'
        ) from error


def begin_again(recorded: RecordedRun, wrapped: StreamPipeline, call: Mapping[str, Any]) -> Run:
    """A session with the recorded arguments, `call` added, and a fresh generator of the recorded seed."""
    start, given = recorded.start, call
    call = {**start["call"], **given}
    missing = [name for name in start["omitted"] if name not in call and name not in own_call.OWN_ARGUMENTS]
    if missing:
        raise InputError(
            f"{recorded.folder} was made with arguments a file cannot hold: pass {', '.join(missing)} again."
        )
    try:
        generator = torch.Generator(start["generator_device"]).manual_seed(start["seed"])
    except RuntimeError as error:
        where = f"{recorded.folder} was made with a generator on {start['generator_device']!r}"
        raise InputError(f"{where}, which this machine does not have.") from error
    # A recorded argument may be anything, and the caller's own are for the pipeline to judge.
    with nullcontext() if given else foreign_code("Calling the pipeline with the recorded arguments"):
        run = wrapped.begin(**{**call, "generator": generator})
    if not given and run.session.num_chunks != start["chunks"]:
        run.session.close()
        raise InputError(
            f"{recorded.folder} has a video of {start['chunks']} chunks, and its arguments make one of "
            f"{str(run.session.num_chunks)[:20]} with this pipeline and this version."
        )
    return run


def placed(recipe: Recipe, folder: Path, *, append: bool = False) -> Recipe:
    """A recorded recipe for a run in `folder`, which is another one than recorded when a run was moved or branched.

    `append`: continue what the run logged to wandb.
    """
    # Where the record is written is decided by the folder; a branch never writes over the video of its run.
    decided = {"folder": PLACES, "journal": PLACES, "report": PLACES, "video": () if append else PLACES}
    observers = {
        name: {key: value for key, value in options.items() if key not in decided.get(name, ())}
        for name, options in recipe.observers.items()
    }
    recipe = recipe.model_copy(update={"observers": observers})
    # A run may be resumed with any number of processes.
    parallel = recipe.parallel.model_copy(update={"candidates": None, "prompts": None})
    return shown_from(recipe, folder, append=append).model_copy(update={"parallel": parallel})


def shown_from(recipe: Recipe, folder: Path, *, append: bool = False) -> Recipe:
    """A recipe for a run in `folder`: where it logs to wandb, that is what wandb shows. `append`: as for `placed`."""
    observers = dict(recipe.observers)
    if observers.get("wandb", {}).get("folder"):
        observers["wandb"] = {**observers["wandb"], "folder": str(folder), "append": append}
    if append and "trackers" in observers:
        observers["trackers"] = {**observers["trackers"], "append": True}
    return recipe.model_copy(update={"observers": observers})


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
