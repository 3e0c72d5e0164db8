"""Opening a recorded run again: with the same recipe, arguments and seed, and going on where it stopped."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins import pipeline
from streamt1_plugins.api.run import Cost
from streamt1_plugins.config import load as recipes
from streamt1_plugins.errors import InputError
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.checkpoint import load_state, restore
from streamt1_plugins.runs.observers.folder import versions
from streamt1_plugins.runs.observers.record import record_to

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.runs.journal import Event

log = logging.getLogger("streamt1")


@dataclass(frozen=True)
class Opening:
    """How to open a run again. pipe: the caller's pipeline, None to load the recorded model.

    device: where to load it, None for where it ran. observers: more of them, by name.
    call: arguments of the recorded call that JSON could not hold (embeddings, callbacks), or new values for others.
    """

    pipe: Any = None
    device: str | None = None
    observers: Mapping[str, object] | None = None
    call: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Record:
    """What the journal of a run tells."""

    folder: Path
    events: list[Event]

    @classmethod
    def read(cls, folder: str | Path) -> Record:
        """Read the run in `folder`. Raises `InputError` where there is none."""
        return cls(Path(folder), journal.read(folder))

    @property
    def start(self) -> Event:
        return self.events[0]

    @property
    def recipe(self) -> Recipe:
        return recipes.load(self.start["recipe"])

    def tree(self, chunks: int | None = None) -> Tree:
        """The tree; with `chunks`, as it was after that many."""
        return journal.tree_of(self.events, chunks=chunks)

    def cost(self, chunks: int) -> Cost:
        """What the first `chunks` chunks cost."""
        found = [event for event in self.events if event["event"] == "chunk" and event["chunk"] < chunks]
        return Cost(**found[-1]["cost"]) if found else Cost()

    def pipeline(self, opening: Opening, observers: Mapping[str, object], folder: Path) -> StreamPipeline:
        """The recorded recipe around the caller's pipeline or the recorded model; `folder`: where it is kept now."""
        self._warn_of_other_versions()
        observers = {**observers, **(opening.observers or {})}
        recipe = _placed(self.recipe, folder)
        if opening.pipe is not None:
            return pipeline.wrap(opening.pipe, recipe, adapter=recipe.adapter.name, observers=observers)
        if recipe.model is None:
            raise InputError(f"{self.folder} was made with a pipeline loaded elsewhere: pass that pipeline.")
        loaded = pipeline.load(recipe=recipe, observers=observers)
        device = opening.device or self._device()
        return loaded if device == "cpu" else loaded.to(device)  # the CPU is where models are loaded

    def begin(self, wrapped: StreamPipeline, opening: Opening) -> Run:
        """A session with the recorded arguments and a fresh generator of the recorded seed."""
        call = {**self.start["call"], **(opening.call or {})}
        missing = [name for name in self.start["omitted"] if name not in call and name not in pipeline.OWN_ARGUMENTS]
        if missing:
            raise InputError(
                f"{self.folder} was made with arguments a file cannot hold: pass {', '.join(missing)} again."
            )
        generator = torch.Generator(self.start["generator_device"]).manual_seed(self.start["seed"])
        return wrapped.begin(**{**call, "generator": generator})

    def _device(self) -> str:
        device = str(self.start["device"])
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(
                f"{self.folder} was made on {device}, which is not here. Name another device to go on with "
                "results that are close but not the same."
            )
        return device

    def _warn_of_other_versions(self) -> None:
        now, then = versions(), self.start["versions"]
        changed = [f"{name} {then[name]} (now {now.get(name)})" for name in then if then[name] != now.get(name)]
        if changed:
            log.warning("%s was made with %s: results may differ.", self.folder, ", ".join(changed))


def resume(
    folder: str | Path,
    pipe: Any = None,
    *,
    device: str | None = None,
    observers: Mapping[str, object] | None = None,
    **call: Any,
) -> Any:
    """Go on with an interrupted run; returns what the interrupted call would have returned.

    The rest of the tree and the video are the same, bit by bit, as without the interruption (with ``search.batch: 1``
    on the same machine and versions). `pipe` is needed where the model was not loaded by this package; `call` takes the
    arguments a journal cannot hold; `observers` are added to those that keep the run. Raises `InputError` where there
    is nothing to resume.
    """
    wrapped = reopen(folder, Opening(pipe, device, observers, call))
    return wrapped.complete(wrapped.last_run)


def reopen(folder: str | Path, opening: Opening) -> StreamPipeline:
    """The pipeline of an interrupted run; its ``last_run`` stands where the run stopped, ready for `complete`."""
    record = Record.read(folder)
    saved = load_state(record.folder)
    chunks = saved.chunks if saved else 0
    wrapped = record.pipeline(opening, _recorders(record), record.folder)
    run = record.begin(wrapped, opening)
    with closing_on_error(run):
        run.resumed = True
        if saved:
            restore(run, saved, record.tree(chunks), record.folder)
        run.cost = record.cost(chunks)
    return wrapped


def _placed(recipe: Recipe, folder: Path) -> Recipe:
    """The run folder may have moved, or be another one, since the recipe was recorded."""
    observers = {
        name: {**options, "folder": str(folder)} if name == "wandb" and options.get("folder") else options
        for name, options in recipe.observers.items()
    }
    # Whoever goes on with a run may do so with any number of processes.
    parallel = recipe.parallel.model_copy(update={"candidates": None, "prompts": None})
    return recipe.model_copy(update={"observers": observers, "parallel": parallel})


def _recorders(record: Record) -> dict[str, object]:
    """Everything goes on in the run's own folder, except a video the recipe wants elsewhere."""
    found = record_to(record.folder)
    return {name: part for name, part in found.items() if name != "video" or name not in record.recipe.observers}


@contextmanager
def closing_on_error(run: Run) -> Iterator[None]:
    """Give the pipeline back as it was when the run cannot even start."""
    done = False
    try:
        yield
        done = True
    finally:
        if not done:
            run.session.close()
