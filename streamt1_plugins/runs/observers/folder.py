"""What people read of a run: `recipe.yaml`, `tree.json` and `summary.json`, derived from the events of its journal."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.files import to_json, write_atomically
from streamt1_plugins.runs.observers.recorder import Recorder
from streamt1_plugins.runs.recorded import RecordedRun

if TYPE_CHECKING:
    from streamt1_plugins.runs.events import RunEvents
    from streamt1_plugins.runs.journal import Event

log = logging.getLogger("streamt1")

RECIPE, TREE, SUMMARY = "recipe.yaml", "tree.json", "summary.json"


@dataclass(eq=False)
class Folder(Recorder):
    """Keeps the record of a run in the folder `path`; `tree.json` is complete again after every chunk.

    path: the run folder, made when the run starts. A folder that already holds a run is refused.
    append: continue the record of the run that the folder holds.
    """

    MARK = RECIPE

    def __post_init__(self) -> None:
        super().__post_init__()
        self._events: list[Event] = []

    def start(self, made: RunEvents, exists: bool) -> None:
        """Write the recipe, and take over the events of the run that the folder holds."""
        if not exists:
            write_atomically(self.folder / RECIPE, made.run.recipe.to_yaml())
        if self.append and (self.folder / journal.JOURNAL).exists():
            self._events = [*journal.read(self.folder), *made.resumed()]
        else:
            self._events = list(made.started())

    def add(self, event: Event) -> None:
        """Keep the event until the next file is derived."""
        self._events.append(event)

    @hookimpl
    def streamt1_chunk_selected(self) -> None:
        if self._made is None:
            return
        self._events += self._made.committed()
        try:
            self._write_tree()
        except OSError as error:
            # Space may be back before the end, and only the end's failure loses anything.
            log.warning("%s was not updated: %s", self.folder / TREE, error)

    def finish(self, made: RunEvents, error: BaseException | None) -> None:
        """Write the tree and the summary."""
        self._events += [*made.committed(), made.finished(error)]
        recorded = self._write_tree()
        write_atomically(self.folder / SUMMARY, to_json(recorded.summary()))

    def _write_tree(self) -> RecordedRun:
        recorded = RecordedRun(self.folder, self._events)
        write_atomically(self.folder / TREE, to_json(recorded.tree().to_dict()))
        return recorded
