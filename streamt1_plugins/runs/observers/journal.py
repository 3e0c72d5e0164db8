"""Writes a run to disk as it happens, so that nothing is lost when it is killed, and so that it can be resumed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.errors import OutputError
from streamt1_plugins.runs.checkpoint import CheckpointFiles
from streamt1_plugins.runs.events import RunEvents
from streamt1_plugins.runs.files import Claim, finishing, warned, writing
from streamt1_plugins.runs.journal import JOURNAL, JournalFile
from streamt1_plugins.runs.way_on import resume_with

if TYPE_CHECKING:
    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Action
    from streamt1_plugins.api.types import Revision
    from streamt1_plugins.runs.journal import Event

log = logging.getLogger("streamt1")

SEARCHED_AGAIN = "this chunk would be searched again after an interruption"


@dataclass(eq=False)
class Journal:
    """Writes `journal.jsonl` line by line, and in `state/` what `streamt1_plugins.resume` needs, to the folder `path`.

    path: the run folder, made when the run starts. A folder that already holds a journal is refused.
    state: whether the run can be resumed; costs the latents of the surviving branches on disk.
    append: continue the journal that the folder holds.
    """

    needs_frames: ClassVar[bool] = False

    path: str = field(metadata={"acts": "write"})
    state: bool = True
    append: bool = False

    def __post_init__(self) -> None:
        self.known_end: int | None = None
        """Where the journal ended when it was read to be continued, in bytes; None where nothing depends on it."""
        self._claim: Claim | None = None
        self._file: JournalFile | None = None
        self._made: RunEvents | None = None

    @hookimpl(tryfirst=True)  # before another observer writes to the folder, which has to be empty
    def streamt1_run_started(self, run: Run) -> None:
        path = Path(self.path) / JOURNAL
        self._claim = Claim(path.parent, None if self.append else JOURNAL, owner=run)
        exists, made = path.exists(), RunEvents(run)
        self._checkpoints = CheckpointFiles(path.parent)
        with writing(f"The journal in {self.path} cannot be written"):
            self._file = JournalFile(path)
            if self.known_end not in (None, self._file.end):
                raise OutputError(f"Another process has continued the run in {self.path} meanwhile: resume it again.")
            for event in made.resumed() if exists else made.started():
                self._add(made, event)
            self._file.sync()
        self._flush()
        self._made = made

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Candidate) -> None:
        if self._made is not None and self._file is not None:
            # The line is written with the next one, or the end reports that it is lost.
            with warned(f"The journal in {self.path} was not updated"):
                self._file.add(self._made.candidate(candidate))

    @hookimpl
    def streamt1_acted(self, run: Run, action: Action) -> None:
        if self._made is not None and self._file is not None:
            with warned(f"The journal in {self.path} was not updated"):
                self._file.add(self._made.acted(action))
            run.background.submit(f"Flushing the record in {self.path}", self._flush, urgent=True)

    @hookimpl(trylast=True)
    def streamt1_chunk_selected(self) -> None:
        """Write the line and the checkpoint of the chunk that was just committed, if any.

        When it returns, a killed process loses neither. That a power cut loses neither is left to the background.
        """
        if self._made is None or self._file is None:
            return
        for event in self._made.committed():
            with warned(f"The journal in {self.path} was not updated"):
                self._add(self._made, event)
        self._made.run.background.submit(f"Flushing the record in {self.path}", self._flush, urgent=True)

    @hookimpl(trylast=True)
    def streamt1_revised(self, revision: Revision) -> None:
        """Write that the search has gone back, and the checkpoint of where it is now.

        The checkpoint first: without the line it is one of an earlier chunk, from which the same would be made again.
        """
        if self._made is None or self._file is None or revision.back_to is None:
            return
        event, run = self._made.returned(), self._made.run
        with warned(f"{self.path}: {SEARCHED_AGAIN}"):
            if self.state and run.beams[0].path:
                saved = self._checkpoints.of(run.beams, run.call["generator"], run.past)
                event = {**event, "checkpoint": saved.digest}
                self._checkpoints.save(saved, run.beams, run.past)
        with warned(f"The journal in {self.path} was not updated"):
            self._file.add(event)
        if self.state and not run.beams[0].path:
            with warned(f"{self.path}: an old checkpoint could not be deleted"):
                self._checkpoints.clear()
        run.background.submit(f"Flushing the record in {self.path}", self._flush, urgent=True)

    @hookimpl
    def streamt1_run_finished(self, error: BaseException | None) -> None:
        try:
            self.streamt1_chunk_selected()  # an interruption between a chunk's commit and its line
            made, self._made = self._made, None
            if made is not None and self._file is not None:  # else the run ended before it started
                made.run.background.wait()
                self._flush()
                with finishing(f"The journal in {self.path} could not be finished", Path(self.path)):
                    self._file.add(made.finished(error), sync=True)
                if self.state and error is not None:
                    stopped = f"Stopped after {made.chunks} of {made.run.session.num_chunks} chunks."
                    log.warning("%s Resume with: %s", stopped, resume_with(self.path))
        finally:
            if self._file is not None:
                self._file.close()
            if self._claim is not None:
                self._claim.release()
            self._file = self._claim = None

    def _add(self, made: RunEvents, event: Event) -> None:
        """Write an event, and after the newest chunk's line its checkpoint, whose digest the line holds.

        The line first: a checkpoint is never ahead of the journal, and a chunk without one is searched again.
        """
        beams, saved = made.run.beams, None
        if self._file is None:
            return
        if self.state and event["event"] == "chunk" and event["chunk"] == beams[0].history.index - 1 and beams[0].path:
            saved = self._checkpoints.of(beams, made.run.call["generator"], made.run.past)
            event = {**event, "checkpoint": saved.digest}
        self._file.add(event)
        if saved is not None:
            with warned(f"{self.path}: {SEARCHED_AGAIN}"):
                self._checkpoints.save(saved, beams, made.run.past)

    def _flush(self) -> None:
        """Bring the lines to the disk, and then the newest checkpoint."""
        if self._file is None:
            return
        with warned(f"The journal in {self.path} was not updated"):
            self._file.sync()
        with warned(f"{self.path}: {SEARCHED_AGAIN}"):
            self._checkpoints.settle()
