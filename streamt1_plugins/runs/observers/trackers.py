"""The curves of a run in any tracker of accelerate: tensorboard, mlflow, comet and others."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.errors import PluginError, foreign_code, unknown_name
from streamt1_plugins.runs.observers.scalars import chunk_scalars

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk

log = logging.getLogger("streamt1")


@dataclass(eq=False)
class Trackers:
    """Logs the numbers of every chunk through ``accelerate.tracking``. Like `wandb` it never breaks a run.

    name: which tracker, e.g. `tensorboard`. run: the name of the run there. folder: where trackers that write files
    put them.
    """

    name: str = "tensorboard"
    run: str = "streamt1"
    folder: str = "runs/logs"

    def __post_init__(self) -> None:
        self._tracker: Any = None
        self._clock = 0.0

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        known = {str(name): kind for name, kind in LOGGER_TYPE_TO_CLASS.items()}
        if self.name not in known:
            raise unknown_name("tracker", self.name, known)
        self._clock = perf_counter()
        self._try(lambda: self._start(run, known[self.name]))

    @hookimpl
    def streamt1_chunk_selected(self, run: Run, chunk: Chunk) -> None:
        now = perf_counter()
        scalars = chunk_scalars(run, chunk) | {"seconds": now - self._clock}
        self._clock = now
        if self._tracker is not None:
            self._try(lambda: self._tracker.log(scalars, step=chunk.index))

    @hookimpl
    def streamt1_run_finished(self) -> None:
        if self._tracker is not None:
            self._try(lambda: self._tracker.finish())
        self._tracker = None

    def _start(self, run: Run, kind: Any) -> None:
        arguments = [self.run, self.folder] if kind.requires_logging_directory else [self.run]
        self._tracker = kind(*arguments)
        self._tracker.start()
        config = {name: _simple(value) for name, value in run.recipe.model_dump(mode="json").items()}
        self._tracker.store_init_configuration({**config, "prompt": run.prompt, "seed": run.seed})

    def _try(self, action: Callable[[], object]) -> None:
        try:
            with foreign_code(f"The tracker {self.name!r}"):
                action()
        except PluginError as error:
            self._tracker = None
            log.warning("%s. The run continues without it.", str(error).rstrip("."))


def _simple(value: Any) -> str | int | float | bool:
    """What every tracker takes as a hyperparameter."""
    return value if isinstance(value, (str, int, float, bool)) else json.dumps(value)
