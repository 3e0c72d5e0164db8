"""Writes a run to disk as it happens, so that nothing is lost when it is killed, and so that it can be resumed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.runs.checkpoint import save_checkpoint
from streamt1_plugins.runs.events import RunEvents
from streamt1_plugins.runs.files import Claim, warned, writing
from streamt1_plugins.runs.journal import JOURNAL, JournalFile

if TYPE_CHECKING:
    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run

log = logging.getLogger("streamt1")


@dataclass(eq=False)
class Journal:
    """Writes `journal.jsonl` line by line, and in `state/` what `streamt1_plugins.resume` needs, to the folder `path`.

    path: the run folder, made when the run starts. A folder that already holds a journal is refused.
    state: whether the run can be resumed; costs the latents of the surviving branches on disk.
    append: continue the journal that the folder holds.
    """

    path: str = field(metadata={"acts": "write"})
    state: bool = True
    append: bool = False

    def __post_init__(self) -> None:
        self._claim: Claim | None = None
        self._file: JournalFile | None = None
        self._made: RunEvents | None = None

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        path = Path(self.path) / JOURNAL
        self._claim = Claim(path.parent, None if self.append else JOURNAL)
        exists, made = path.exists(), RunEvents(run)
        with writing(f"The journal in {self.path} cannot be written"):
            self._file = JournalFile(path)
            for event in made.resumed() if exists else made.started():
                self._file.add(event, sync=event["event"] != "candidate")
        self._made = made
        if run.beams[0].path and not exists:
            self._save(made)

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Candidate) -> None:
        if self._made is not None and self._file is not None:
            # The line is written with the next one, or the end reports that it is lost.
            with warned(f"The journal in {self.path} was not updated"):
                self._file.add(self._made.candidate(candidate))

    @hookimpl(trylast=True)
    def streamt1_chunk_selected(self) -> None:
        """Write the line and the checkpoint of the chunk that was just committed, if any."""
        if self._made is None or self._file is None:
            return
        for event in self._made.committed():
            # The line first: a checkpoint is never ahead of the journal, and a chunk without one is searched again.
            with warned(f"The journal in {self.path} was not updated"):
                self._file.add(event, sync=True)
                self._save(self._made)

    @hookimpl
    def streamt1_run_finished(self, error: BaseException | None) -> None:
        try:
            self.streamt1_chunk_selected()  # an interruption between a chunk's commit and its line
            made, self._made = self._made, None
            if made is not None and self._file is not None:  # else the run ended before it started
                with writing(f"The journal in {self.path} could not be finished"):
                    self._file.add(made.finished(error), sync=True)
                if self.state and error is not None:
                    stopped = f"Stopped after {made.chunks} of {made.run.session.num_chunks} chunks."
                    log.warning("%s Resume with: streamt1 generate --resume %s", stopped, self.path)
        finally:
            if self._file is not None:
                self._file.close()
            if self._claim is not None:
                self._claim.release()
            self._file = self._claim = None

    def _save(self, made: RunEvents) -> None:
        if self.state:
            with warned(f"{self.path}: this chunk would be searched again after an interruption"):
                save_checkpoint(Path(self.path), made.run.beams, made.run.call["generator"])
