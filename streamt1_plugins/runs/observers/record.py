"""Everything that records a run, by one name: what `streamt1 generate` uses, and what continues on a resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError, shown
from streamt1_plugins.runs.files import VIDEO as VIDEO  # its readers look for it here
from streamt1_plugins.runs.observers.folder import Folder
from streamt1_plugins.runs.observers.journal import Journal
from streamt1_plugins.runs.observers.per_run import RecordPerRun
from streamt1_plugins.runs.observers.report import ReportPage
from streamt1_plugins.runs.observers.video import Video

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.config.schema import Recipe


def recorders(folder: str | Path, named: Mapping[str, Mapping[str, Any]], append: bool = False) -> dict[str, object]:
    """The observers of `record_to`, without the video where the recipe has it written elsewhere.

    named: the `observers` of the recipe, whose other options are theirs.
    """
    made = record_to(folder, append)
    if named.get("video", {}).get("path") is not None:
        del made["video"]
    return made


def video_file(folder: Path, named: Mapping[str, Mapping[str, Any]]) -> Path:
    """Where the video of a run in `folder` is, with the `observers` of its recipe."""
    path = named.get("video", {}).get("path")
    return folder / VIDEO if path is None else user_path(path)


def record_to(folder: str | Path, append: bool = False, *, per_run: bool = False) -> dict[str, object]:
    """Observers that leave the whole run in `folder`: ``wrap(pipe, observers=record_to("runs/mine"))``.

    Recipe, journal, checkpoint, tree, summary, video, film strips and page. The folder has to be new or empty; with
    `append` the record that it holds is continued. per_run: every run, so every video of every call, gets a new folder
    in `folder`, named by its time and prompt; ``pipe.run_folder`` is the last one. Raises `InputError`.
    """
    if not isinstance(folder, str | Path):
        raise InputError(f"`folder` has to be a path, got {shown(folder)}.")
    path = str(user_path(folder))
    if per_run:
        if append:
            raise InputError("`per_run` makes new folders, and `append` continues the run of an old one: choose one.")
        return {"record": RecordPerRun(path, record_to)}
    return {
        "folder": Folder(path, append=append),
        "video": Video(str(Path(path) / VIDEO)),
        "journal": Journal(path, append=append),
        "report": ReportPage(path),
    }


def titled(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe of a new run in `folder`, by whose name the programs that it logs to call it, unless it names it."""
    options = {"wandb": "name", "trackers": "title"}
    observers = {
        name: {options[name]: folder.name, **each} if name in options else each
        for name, each in recipe.observers.items()
    }
    return recipe.model_copy(update={"observers": observers})
