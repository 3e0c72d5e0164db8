"""Writes a run to disk as it happens, so that nothing is lost when it is killed, and so that it can be resumed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.runs.checkpoint import save_checkpoint
from streamt1_plugins.runs.journal import JOURNAL, JournalFile
from streamt1_plugins.runs.observers.recorder import Recorder

if TYPE_CHECKING:
    from streamt1_plugins.runs.events import RunEvents
    from streamt1_plugins.runs.journal import Event

log = logging.getLogger("streamt1")


@dataclass(eq=False)
class Journal(Recorder):
    """Writes `journal.jsonl` line by line, and in `state/` what `streamt1_plugins.resume` needs, to the folder `path`.

    path: the run folder, made when the run starts. A folder that already holds a journal is refused.
    append: continue the journal that the folder holds.
    state: whether the run can be resumed; costs the latents of the surviving branches on disk.
    """

    MARK = JOURNAL

    state: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._file: JournalFile | None = None

    def start(self, made: RunEvents, exists: bool) -> None:
        """Write the first line and, for a branch, those of its tree and its checkpoint."""
        self._file = JournalFile(self.folder / JOURNAL)
        for event in made.resumed() if exists else made.started():
            self._write(event)
        if made.run.beams[0].path and not exists:
            self._save(made)

    @hookimpl(trylast=True)
    def streamt1_chunk_selected(self) -> None:
        if self._made is not None:
            self._commit(self._made)

    def finish(self, made: RunEvents, error: BaseException | None) -> None:
        """Write the last line; a warning gives the command that resumes a run that ended early."""
        self._commit(made)  # an interruption between a chunk's commit and its line
        self._write(made.finished(error))
        if self.state and error is not None:
            stopped = f"Stopped after {made.chunks} of {made.run.session.num_chunks} chunks."
            log.warning("%s Resume with: streamt1 generate --resume %s", stopped, self.path)

    def close(self) -> None:
        """Close the file and give the folder back."""
        if self._file is not None:
            self._file.close()
        self._file = None
        super().close()

    def _commit(self, made: RunEvents) -> None:
        """Line and checkpoint of a chunk that was just committed, if any."""
        # The line first: a checkpoint is then never ahead of the journal, and a chunk without one is searched again.
        for event in made.committed():
            if self.add(event):
                self._save(made)

    def add(self, event: Event) -> bool:
        """Write one line; returns whether it is in the file.

        A full disk must not end a run: the line is written with the next one, or the end reports that it is lost.
        """
        try:
            self._write(event)
        except OSError as error:
            log.warning("The journal in %s was not updated: %s", self.path, error)
            return False
        return True

    def _write(self, event: Event) -> None:
        if self._file is not None:
            self._file.add(event, sync=event["event"] != "candidate")

    def _save(self, made: RunEvents) -> None:
        if not self.state:
            return
        try:
            save_checkpoint(self.folder, made.run.beams, made.run.call["generator"])
        except OSError as error:
            log.warning("%s: this chunk would be searched again after an interruption: %s", self.path, error)
