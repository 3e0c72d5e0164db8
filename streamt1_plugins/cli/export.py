"""`streamt1 export`: recorded runs as preference pairs or groups of candidates, for training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamt1_plugins.cli.base import SOME_FAILED, Threads, Trust, complain, echo, takes
from streamt1_plugins.errors import StreamT1Error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamt1_plugins.export.run import Export, ExportedRun
    from streamt1_plugins.runs.recorded import RecordedRun


class Kind(str, Enum):
    """What a line of the data is."""

    preferences = "preferences"
    groups = "groups"


class Content(str, Enum):
    """What is written of a candidate besides its scores."""

    latents = "latents"
    frames = "frames"
    none = "none"


@dataclass(frozen=True)
class ExportOptions:
    """The command line of `streamt1 export`."""

    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, or folders of run folders.", show_default=False)
    ]
    kind: Annotated[
        Kind,
        typer.Option(
            "--as", help="Pairs of the best and the worst candidate of a history, or all of them with advantages."
        ),
    ]
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where to write; continued if it exists.")]
    tensors: Annotated[
        Content,
        typer.Option(
            help="Of each candidate. Latents and frames are generated again from seeds, at the cost of the search "
            "without its rewards; none loads no model."
        ),
    ] = Content.latents
    device: Annotated[str | None, typer.Option(help="Where to run. Default: where each run was made.")] = None
    threads: Threads = None
    trust: Trust = False


@takes(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write recorded runs as data for training: JSON lines, with latents or frames as safetensors beside them."""
    from streamt1_plugins.cli.running import stoppable
    from streamt1_plugins.export import run
    from streamt1_plugins.runs.recorded import RecordedRun

    recorded = [RecordedRun.read(folder) for folder in run.run_folders(options.runs)]
    replaying = {"device": options.device, "trust": options.trust}
    with stoppable(), run.opened(options.out, options.kind.value, options.tensors.value, replaying) as writer:
        found = list(_written(writer, recorded))
    counts = run.summary(found)
    if not counts["records"]:
        complain("There is no line: no run has two scored candidates with one history. Export runs that searched.")
    echo(f"folder  {options.out}  ({counts['records']} {options.kind.value}, {counts['candidates']} candidates)")
    if len(found) < len(recorded):
        raise typer.Exit(SOME_FAILED)


def _written(writer: Export, recorded: Sequence[RecordedRun]) -> Iterator[ExportedRun]:
    """Write each run; one of several that cannot be written is reported, and the others are."""
    for each in recorded:
        try:
            found = writer.write(each)
        except StreamT1Error as error:
            if len(recorded) == 1:
                raise
            complain(f"{each.folder}: {error}")
            continue
        echo(f"{found.name}  {found.records} records{'' if found.new else ', already there'}", err=True)
        yield found
