"""`streamt1 replay`: a recorded video made again from seeds, or a new run from any node of a recorded one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamt1_plugins.cli.base import Threads, Trust, echo, takes
from streamt1_plugins.cli.running import VIDEO, console_of, kept, loading, show_result, starting
from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from streamt1_plugins.runs.recorded import RecordedRun


@dataclass(frozen=True)
class ReplayOptions:
    """The command line of `streamt1 replay`."""

    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a recorded run.", show_default=False)]
    node: Annotated[str | None, typer.Option(help="End with this node, e.g. 003.01. Default: the winner.")] = None
    continue_from: Annotated[
        str | None, typer.Option(metavar="NODE", help="Start a new run there, whatever the rewards preferred.")
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder, new or empty. Default: RUN/replay-NODE, RUN-NODE for a new run.", show_default=False
        ),
    ] = None
    device: Annotated[str | None, typer.Option(help="Where to run. Default: where the run was made.")] = None
    threads: Threads = None
    trust: Trust = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the path of the video.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print only the summary of a new run, as JSON.")] = False


@takes(ReplayOptions)
def replay(options: ReplayOptions) -> None:
    """Make the winner of RUN again from its seeds, at the cost of the plain pipeline, or continue any node of it."""
    starting(options)
    if options.node and options.continue_from:
        raise InputError("Give either --node, which replays, or --continue-from, which starts a new search there.")
    from streamt1_plugins.runs.recorded import RecordedRun

    recorded = RecordedRun.read(options.run)  # a wrong folder is an error before anything heavy is imported
    if options.continue_from:
        _continue(options, options.continue_from)
    else:
        _regenerate(options, recorded)


def _regenerate(options: ReplayOptions, recorded: RecordedRun) -> None:
    from streamt1_plugins.replay import path_to, replayed
    from streamt1_plugins.runs.files import check_plain
    from streamt1_plugins.runs.observers.video import write_video

    end = path_to(recorded, options.node)[-1].id
    out = _folder(options, options.run / f"replay-{end}")
    if options.out is None:
        check_plain(out, folder=True)
    with loading(options), replayed(options.run, end, device=options.device, trust=options.trust) as run:
        out.mkdir(parents=True, exist_ok=True)
        write_video(chain.from_iterable(run.beams[0].history.frames), out / VIDEO, run.session.fps)
    echo(str(out / VIDEO))


def _continue(options: ReplayOptions, node: str) -> None:
    from streamt1_plugins.replay import branch

    out = _folder(options, options.run.with_name(f"{options.run.resolve().name}-{node}"))
    with loading(options):
        pipe = branch(options.run, node, out, device=options.device, observers=console_of(options), trust=options.trust)
    with kept(pipe, out):
        pipe.complete(pipe.last_run)
    show_result(options, pipe, out)


def _folder(options: ReplayOptions, default: Path) -> Path:
    from streamt1_plugins.cli.generate import run_folder

    return run_folder(options.out or default, "")
