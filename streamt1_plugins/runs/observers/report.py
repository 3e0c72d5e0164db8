"""Film strips during the run, and the page when it ends."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.runs.files import MEGABYTE, finishing, warned
from streamt1_plugins.runs.journal import JOURNAL
from streamt1_plugins.runs.report import PAGE, write_page
from streamt1_plugins.runs.report.strips import StripKeeper, on_host

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Revision

log = logging.getLogger("streamt1")

BASE64 = 4 / 3
"""Bytes in a page by byte of a picture."""


@dataclass(eq=False)
class ReportPage:
    """Writes `report.html` to the run folder `path`, which a `journal` observer has to write to as well.

    path: the run folder. media_mb: size of all pictures in the page together; strips shrink to fit.
    """

    path: str = field(metadata={"acts": "write"})
    media_mb: Annotated[float, Field(gt=0)] = 12.0

    def __post_init__(self) -> None:
        self._keeper: StripKeeper | None = None
        self._began = False

    @hookimpl(trylast=True)  # after the observers that refuse a folder in use
    def streamt1_run_started(self, run: Run) -> None:
        chunks, search = run.session.num_chunks - run.beams[0].history.index, run.recipe.search
        expected = search.candidates * search.top_k * chunks  # about: every survivor branches again
        self._began = True
        with warned("The page of this run will have no pictures"):
            self._keeper = StripKeeper(Path(self.path), int(self.media_mb * MEGABYTE / BASE64), expected)

    @hookimpl
    def streamt1_candidate_scored(self, run: Run, candidate: Candidate) -> None:
        if not candidate.previewed:
            self._submit(run, candidate.id, candidate.decoded.frames)

    @hookimpl
    def streamt1_chunk_selected(self, run: Run, kept: Sequence[Candidate], pruned: Sequence[Candidate]) -> None:
        """Draw candidates that were scored by previews: survivors have the frames of the video only now."""
        for beam, candidate in zip(run.beams, kept, strict=True):
            if candidate.previewed or candidate.preview is not None:
                self._submit(run, beam.path[-1].id, beam.history.frames[-1])
        for candidate in pruned:
            if candidate.previewed:
                self._submit(run, candidate.id, candidate.decoded.frames)

    @hookimpl
    def streamt1_revised(self, run: Run, revision: Revision, candidates: Sequence[Candidate]) -> None:
        """Draw candidates that were scored by previews and are abandoned."""
        for candidate in candidates if revision.back_to is not None else ():
            if candidate.previewed:
                self._submit(run, candidate.id, candidate.decoded.frames)

    def _submit(self, run: Run, name: str, frames: Tensor) -> None:
        if self._began and len(frames):  # else another process has them
            draw = partial(self._draw, name, on_host(frames))
            run.background.submit(f"Drawing the film strip of {name}", draw)

    def _draw(self, name: str, frames: Tensor) -> None:
        keeper, self._keeper = self._keeper, None  # until it has worked
        with warned("No more pictures for the page of this run"):
            if keeper is not None:
                keeper.keep(name, frames)
            self._keeper = keeper

    @hookimpl
    def streamt1_run_finished(self, run: Run) -> None:
        run.background.wait()  # for the strips
        began, self._began = self._began, False
        if not began:
            return
        folder = Path(self.path)
        if (folder / JOURNAL).exists():
            with finishing(f"The page {folder / PAGE} could not be written", folder):
                write_page(folder)
        else:
            log.warning("No %s in %s: the page needs the observer `journal` with the same path.", PAGE, folder)
