"""Writes a run to disk as it happens, so that nothing is lost when it is killed, and so that it can be resumed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.errors import OutputError
from streamt1_plugins.runs.checkpoint import save_checkpoint
from streamt1_plugins.runs.events import RunEvents
from streamt1_plugins.runs.files import Claim
from streamt1_plugins.runs.journal import JOURNAL, JournalFile

if TYPE_CHECKING:
    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.runs.journal import Event

log = logging.getLogger("streamt1")


@dataclass(eq=False)
class Journal:
    """Writes `journal.jsonl` line by line, and in `state/` what `streamt1_plugins.resume` needs, to the folder `path`.

    path: the run folder, made when the run starts. A folder that already holds a journal is refused.
    state: whether the run can be resumed; costs the latents of the surviving branches on disk.
    append: continue the journal that the folder holds.
    """

    path: str
    state: bool = True
    append: bool = False

    def __post_init__(self) -> None:
        self._claim: Claim | None = None
        self._file: JournalFile | None = None
        self._made: RunEvents | None = None

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        path = Path(self.path) / JOURNAL
        self._claim = Claim(path.parent)
        exists = path.exists()
        if exists and not self.append:
            raise OutputError(f"The folder {self.path} already holds a run. Choose another one, or resume that run.")
        self._made = RunEvents(run)
        try:
            self._file = JournalFile(path)
            for event in self._made.resumed() if exists else self._made.started():
                self._add(event)
        except OSError as error:
            raise OutputError(f"The journal in {self.path} cannot be written: {error.strerror or error}.") from error
        if run.beams[0].path and not exists:
            self._save(run)

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Candidate) -> None:
        if self._made is not None:
            self._try_add(self._made.candidate(candidate))

    @hookimpl(trylast=True)
    def streamt1_chunk_selected(self, run: Run) -> None:
        self._commit(run)

    @hookimpl
    def streamt1_run_finished(self, run: Run, error: BaseException | None) -> None:
        try:
            if self._file is not None and self._made is not None:  # else the run ended before it started
                self._finish(run, self._made, error)
        finally:
            self._close()

    def _finish(self, run: Run, made: RunEvents, error: BaseException | None) -> None:
        self._commit(run)  # an interruption between a chunk's commit and its line
        try:
            self._add(made.finished(error))
        except OSError as failure:
            raise OutputError(f"The journal in {self.path} could not be finished: {failure}.") from failure
        if self.state and error is not None:
            stopped = f"Stopped after {made.chunks} of {run.session.num_chunks} chunks."
            log.warning("%s Resume with: streamt1 generate --resume %s", stopped, self.path)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._claim is not None:
            self._claim.release()
        self._file = self._made = self._claim = None

    def _commit(self, run: Run) -> None:
        """Line and checkpoint of a chunk that was just committed, if any."""
        # The line first: a checkpoint is then never ahead of the journal, and a chunk without one is searched again.
        for event in self._made.committed() if self._made is not None else ():
            if self._try_add(event):
                self._save(run)

    def _add(self, event: Event) -> None:
        if self._file is not None:
            self._file.add(event, sync=event["event"] != "candidate")

    def _try_add(self, event: Event) -> bool:
        """A full disk must not end a run: the line is written with the next one, or the end reports that it is lost."""
        try:
            self._add(event)
        except OSError as error:
            log.warning("The journal in %s was not updated: %s", self.path, error)
            return False
        return True

    def _save(self, run: Run) -> None:
        if not self.state:
            return
        try:
            save_checkpoint(run, Path(self.path))
        except OSError as error:
            log.warning("%s: this chunk would be searched again after an interruption: %s", self.path, error)
