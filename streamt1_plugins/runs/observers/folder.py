"""What people read of a run: `recipe.yaml`, `tree.json` and `summary.json`, derived from the events of its journal."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.errors import OutputError
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.events import RunEvents
from streamt1_plugins.runs.files import Claim, to_json, write_atomically
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.runs.summary import summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.runs.journal import Event

log = logging.getLogger("streamt1")

RECIPE, TREE, SUMMARY = "recipe.yaml", "tree.json", "summary.json"


@dataclass(eq=False)
class Folder:
    """Keeps the record of a run in the folder `path`; `tree.json` is complete again after every chunk.

    path: the run folder, made when the run starts. A folder that already holds a run is refused.
    append: continue the record of the run that the folder holds.
    """

    path: str
    append: bool = False

    def __post_init__(self) -> None:
        self._claim: Claim | None = None
        self._made: RunEvents | None = None
        self._events: list[Event] = []

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        folder = Path(self.path)
        self._claim = Claim(folder)
        exists = (folder / RECIPE).exists()
        if exists and not self.append:
            raise OutputError(f"The folder {self.path} already holds a run. Choose another one.")
        if not exists:
            with _reported(f"The run folder {self.path} cannot be used"):
                write_atomically(folder / RECIPE, run.recipe.to_yaml())
        self._made = RunEvents(run)
        if self.append and (folder / journal.JOURNAL).exists():
            self._events = [*journal.read(folder), *self._made.resumed()]
        else:
            self._events = list(self._made.started())

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Candidate) -> None:
        if self._made is not None:
            self._events.append(self._made.candidate(candidate))

    @hookimpl
    def streamt1_chunk_selected(self) -> None:
        if self._made is None:
            return
        self._events += self._made.committed()
        try:
            self._write_tree()
        except OSError as error:
            # Space may be back before the end, and only the end's failure loses anything.
            log.warning("%s was not updated: %s", Path(self.path) / TREE, error)

    @hookimpl
    def streamt1_run_finished(self, error: BaseException | None) -> None:
        made, self._made = self._made, None
        try:
            if made is not None:  # else the run ended before it started: nothing here is ours
                self._events += [*made.committed(), made.finished(error)]
                with _reported(f"The record of the run could not be brought up to date in {self.path}"):
                    self._write_tree()
                    write_atomically(Path(self.path) / SUMMARY, to_json(summary(self._recorded())))
        finally:
            if self._claim is not None:
                self._claim.release()
            self._claim = None

    def _write_tree(self) -> None:
        write_atomically(Path(self.path) / TREE, to_json(self._recorded().tree().to_dict()))

    def _recorded(self) -> RecordedRun:
        return RecordedRun(Path(self.path), self._events)


@contextmanager
def _reported(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{what}: {error.strerror or error}.") from error
