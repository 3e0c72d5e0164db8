"""Everything that records a run, by one name: what `streamt1 generate` uses, and what continues on a resume."""

from __future__ import annotations

from pathlib import Path

from streamt1_plugins.runs.files import VIDEO as VIDEO  # its readers look for it here
from streamt1_plugins.runs.observers.folder import Folder
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.runs.observers.report import ReportPage
from streamt1_plugins.runs.observers.video import Video


def record_to(folder: str | Path, append: bool = False) -> dict[str, object]:
    """Observers that leave the whole run in `folder`: ``wrap(pipe, observers=record_to("runs/mine"))``.

    Recipe, journal, checkpoint, tree, summary, video, film strips and page. The folder must not hold a run yet; with
    `append` the record that it holds is continued.
    """
    path = str(folder)
    return {
        "folder": Folder(path, append=append),
        "video": Video(str(Path(path) / VIDEO)),
        "journal": Journal(path, append=append),
        "report": ReportPage(path),
    }
