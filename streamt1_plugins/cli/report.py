"""`streamt1 report`: the page of a recorded run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamt1_plugins.cli.base import echo
from streamt1_plugins.config.user_files import user_path


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a recorded run.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="The file. Default: RUN/report.html.", show_default=False)] = None,
) -> None:
    """Write the page of RUN: its tree, candidates, scores and memory in one HTML file that needs nothing else.

    For a folder of runs, write the index that leads to them.
    """
    from streamt1_plugins.runs.files import JOURNAL, writing
    from streamt1_plugins.runs.report import write_page
    from streamt1_plugins.runs.sheet import Sheet

    folder, out = user_path(folder), out and user_path(out)
    if out is None and not (folder / JOURNAL).exists() and (sheet := Sheet(folder)).cards():
        with writing(f"The index of {folder} cannot be written"):
            echo(str(sheet.write()))
        return
    with writing(f"The page {out or folder} cannot be written"):
        echo(str(write_page(folder, out)))
