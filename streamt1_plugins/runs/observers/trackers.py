"""The curves of a run in any tracker of accelerate: tensorboard, mlflow, comet and others."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.errors import unknown_name
from streamt1_plugins.runs.observers.scalars import Dashboard, chunk_scalars

if TYPE_CHECKING:
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk


@dataclass(eq=False)
class Trackers(Dashboard):
    """Logs the numbers of every chunk through ``accelerate.tracking``. Like `wandb` it never breaks a run.

    name: which tracker, e.g. `tensorboard`. run: the name of the run there. folder: where trackers that write files
    put them.
    """

    name: str = field(default="tensorboard", metadata={"acts": "upload"})
    run: str = field(default="streamt1", metadata={"acts": "text"})
    folder: str = field(default="runs/logs", metadata={"acts": "write"})

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        known = {str(name): kind for name, kind in LOGGER_TYPE_TO_CLASS.items()}
        if self.name not in known:
            raise unknown_name("tracker", self.name, known)
        kind = known[self.name]
        recipe = {name: _simple(value) for name, value in run.recipe.model_dump(mode="json").items()}
        self._lap()
        with self._guarded(self._program):
            tracker: Any = kind(*([self.run, self.folder] if kind.requires_logging_directory else [self.run]))
            tracker.start()
            tracker.store_init_configuration({**recipe, "prompt": run.prompt, "seed": run.seed})
            self._log = tracker

    @hookimpl
    def streamt1_chunk_selected(self, run: Run, chunk: Chunk) -> None:
        if self._log is not None:
            with self._guarded(self._program):
                self._log.log({**chunk_scalars(run, chunk), "seconds": self._lap()}, step=chunk.index)

    @hookimpl
    def streamt1_run_finished(self) -> None:
        if self._log is not None:
            with self._guarded(self._program):
                self._log.finish()
        self._log = None

    @property
    def _program(self) -> str:
        return f"The tracker {self.name!r}"


def _simple(value: Any) -> str | int | float | bool:
    """What every tracker takes as a hyperparameter."""
    return value if isinstance(value, (str, int, float, bool)) else json.dumps(value)
