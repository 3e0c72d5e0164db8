"""Everything that keeps a run, by one name: what `streamt1 generate` uses, and what goes on when a run is resumed."""

from __future__ import annotations

from pathlib import Path

from streamt1_plugins.runs.observers.folder import Folder
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.runs.observers.report import Report
from streamt1_plugins.runs.observers.video import Video

VIDEO = "video.mp4"


def record_to(folder: str | Path) -> dict[str, object]:
    """Observers that leave the whole run in `folder`: ``wrap(pipe, observers=record_to("runs/mine"))``.

    Recipe, journal, state, tree, summary, video, thumbnails and page. The folder must not hold a run yet.
    """
    path = str(folder)
    return {
        "folder": Folder(path),
        "video": Video(str(Path(path) / VIDEO)),
        "journal": Journal(path),
        "report": Report(path),
    }
