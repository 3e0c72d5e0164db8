"""What the observers `folder` and `journal` share: a folder reserved for one run, and the events of that run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.errors import OutputError
from streamt1_plugins.runs.events import RunEvents
from streamt1_plugins.runs.files import Claim, writing

if TYPE_CHECKING:
    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.runs.journal import Event


@dataclass(eq=False)
class Recorder:
    """Base of observers that record a run in the folder `path`.

    `MARK`: the file that shows that a folder holds a run. Such a folder is refused, unless `append` continues it.
    """

    MARK: ClassVar[str]

    path: str
    append: bool = False

    def __post_init__(self) -> None:
        self._claim: Claim | None = None
        self._made: RunEvents | None = None
        """None before the run starts and after it ends, and where it ended before it started."""

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.path)

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        self._claim = Claim(self.folder)
        exists = (self.folder / self.MARK).exists()
        if exists and not self.append:
            raise OutputError(f"The folder {self.path} already holds a run. Choose another one, or resume that run.")
        made = RunEvents(run)
        with writing(f"The record of the run cannot be written to {self.path}"):
            self.start(made, exists)
        self._made = made

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Candidate) -> None:
        if self._made is not None:
            self.add(self._made.candidate(candidate))

    @hookimpl
    def streamt1_run_finished(self, error: BaseException | None) -> None:
        made, self._made = self._made, None
        try:
            if made is not None:
                with writing(f"The record of the run could not be brought up to date in {self.path}"):
                    self.finish(made, error)
        finally:
            self.close()

    def start(self, made: RunEvents, exists: bool) -> None:
        """Record the start, or that a run that `exists` in the folder resumes. May raise `OSError`."""
        raise NotImplementedError

    def add(self, event: Event) -> None:
        """Record one event."""
        raise NotImplementedError

    def finish(self, made: RunEvents, error: BaseException | None) -> None:
        """Record the chunks that are still missing and the end. May raise `OSError`."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the folder back."""
        if self._claim is not None:
            self._claim.release()
        self._claim = None
