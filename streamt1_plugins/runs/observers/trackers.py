"""The curves of a run in any tracker of accelerate: tensorboard, mlflow, comet and others."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.errors import PluginError, is_installed, unknown_name
from streamt1_plugins.runs.observers.scalars import Dashboard, chunk_scalars, run_config, step_of
from streamt1_plugins.runs.observers.wandb_run import OwnRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk

OWN: dict[str, dict[str, Any]] = {"mlflow": {"nested_run": True}, "comet_ml": {"mode": "create"}}
"""Arguments with which a tracker of accelerate starts a run of its own beside one that is open."""

TITLED = {"mlflow": "run_name"}
"""The argument with which a tracker of accelerate calls a run, where its first one is the project."""

OTHERS = re.compile(r"[^\w.-]+")
"""What a title may have and the name of a folder in another one may not."""

MODULES = {"tensorboard": ("tensorboard", "tensorboardX")}
"""The modules that a tracker needs one of, where it is not the one of its name."""


@dataclass(eq=False)
class Trackers(Dashboard):
    """Logs the numbers of every chunk through ``accelerate.tracking``. Like `wandb` it never breaks a run.

    name: which tracker, e.g. `tensorboard`. run: the name of the run there. folder: where trackers that write files
    put them; every video gets a folder of its own in it: `title`, or `run`, `run-2` and so on. title: what this video
    is called; on the command line the name of its run folder. append: continue in the folder that `title` names.

    A run that the program has open there is not joined, except in clearml, where a process has one task.
    """

    name: str = field(default="tensorboard", metadata={"acts": "upload"})
    run: str = field(default="streamt1", metadata={"acts": "text"})
    folder: str = field(default="runs/logs", metadata={"acts": "write"})
    title: str | None = field(default=None, metadata={"acts": "text"})
    append: bool = False

    def __post_init__(self) -> None:
        """Raise `UnknownNameError` for an unknown tracker, and `PluginError` where its library is missing."""
        super().__post_init__()
        self._own: OwnRun | None = None
        if not self.append:  # a run that is resumed is worth more than its curves
            _check_installed(self.name)

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        config = {name: _simple(value) for name, value in run_config(run).items()}
        self._lap()
        with self._guarded(self._program):
            self._start(known_trackers()[self.name], config)

    @contextmanager
    def _guarded(self, program: str, **how: bool) -> Iterator[None]:
        with single_process(), super()._guarded(program, **how):
            yield

    def _start(self, kind: Any, config: dict[str, Any]) -> None:
        if self.name == "wandb":  # whose tracker of accelerate would write `config` to the program's active run
            self._own = OwnRun(project=self.run, config=config)
            self._log = self._own.run
            return
        where = [self._own_folder(), self.folder] if kind.requires_logging_directory else [self.run]
        named = {TITLED[self.name]: self.title} if self.title and self.name in TITLED else {}
        tracker = kind(*where, **OWN.get(self.name, {}), **named)
        tracker.start()
        self._log = tracker
        tracker.store_init_configuration(config)

    def _own_folder(self) -> str:
        """The name of this video's folder."""
        name = OTHERS.sub("-", self.title).strip(".") if self.title else self.run
        if self.append and self.title and (Path(self.folder) / name).is_dir():
            return name
        return own_folder(Path(self.folder), name)

    @hookimpl
    def streamt1_chunk_selected(self, run: Run, chunk: Chunk) -> None:
        if self._log is not None:
            with self._guarded(self._program):
                self._log.log({**chunk_scalars(run, chunk), "seconds": self._lap()}, step=step_of(run, chunk))

    @hookimpl
    def streamt1_run_finished(self, error: BaseException | None) -> None:
        with self._guarded(self._program):
            self._finish(failed=error is not None)

    def _end(self, ended: Any, failed: bool) -> None:
        if self._own is None:
            ended.finish()
        else:
            self._own.finish(int(failed))

    @property
    def _program(self) -> str:
        return f"The tracker {self.name!r}"


def known_trackers() -> dict[str, Any]:
    """The classes of accelerate's trackers by name."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    return {str(name): kind for name, kind in LOGGER_TYPE_TO_CLASS.items()}


def _check_installed(name: str) -> None:
    from accelerate import tracking

    known = known_trackers()
    if name not in known:
        raise unknown_name("tracker", name, known)
    if known[name].__module__ != tracking.__name__:  # a program's own, put there by it
        return
    modules = MODULES.get(name, (name,))
    if name not in map(str, tracking.get_available_trackers()) or not any(map(is_installed, modules)):
        raise PluginError(f"The tracker {name!r} needs {modules[0]}: pip install {modules[0].replace('_', '-')}.")


@contextmanager
def single_process() -> Iterator[None]:
    """A context for trackers of accelerate, which need its state: this process alone, where the program has none.

    Else they would make one, which connects all processes of a launcher and decides the device of an `Accelerator` that
    the program makes later.
    """
    import torch
    from accelerate import DistributedType, PartialState

    shared = PartialState._shared_state
    own = not shared
    if own:
        shared.update(_cpu=True, backend=None, device=torch.device("cpu"), debug=False, fork_launched=False)
        shared.update(distributed_type=DistributedType.NO, num_processes=1, process_index=0, local_process_index=0)
    try:
        yield
    finally:
        if own:
            PartialState._reset_state()


def own_folder(parent: Path, name: str) -> str:
    """The name of a new folder in `parent`, which is made: `name`, or else `name-2` and so on."""
    parent.mkdir(parents=True, exist_ok=True)
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(each for each in names if _is_made(parent / each))


def _is_made(folder: Path) -> bool:
    """Whether the folder is new: made by this call, and by no other process."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _simple(value: Any) -> str | int | float | bool:
    """What every tracker takes as a hyperparameter."""
    return value if isinstance(value, (str, int, float, bool)) else json.dumps(value)
