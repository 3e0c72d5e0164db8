"""What the commands that run a pipeline share: what shows while they load, signals, what is printed at the end."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from rich.live import Live
from rich.spinner import Spinner

from streamt1_plugins.cli.base import echo, for_the_command, terminal
from streamt1_plugins.errors import OutputError, StreamT1Error, foreign_code
from streamt1_plugins.process.imports import uncollected
from streamt1_plugins.search.distributed.signals import on_ending
from streamt1_plugins.text.printable import printable_json
from streamt1_plugins.text.terminal import Console

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from streamt1_plugins.pipeline import StreamPipeline

VIDEO = "video.mp4"
LOADING = "Loading the model ..."


class Output(Protocol):
    """How much a command prints."""

    @property
    def quiet(self) -> bool: ...

    @property
    def json(self) -> bool: ...


def console_of(output: Output) -> dict[str, object]:
    """The observer that shows progress; none where the command is quiet."""
    from streamt1_plugins.runs.observers.console import Console as Progress

    return {} if output.quiet else {"console": Progress()}


_shown: ContextVar[Live | None] = ContextVar("shown", default=None)
"""What a terminal shows until the model is loaded."""


@contextmanager
def importing() -> Iterator[None]:
    """Show on a terminal that libraries are imported, by a command that prints all else as it goes."""
    console = Console(stderr=True)
    with uncollected(), console.status("Loading the libraries") if console.is_terminal else nullcontext():
        yield


def starting(output: Output) -> None:
    """Show on a terminal at once that the command works; `loading` takes it away again."""
    console = Console(stderr=True)
    if console.is_terminal and _is_heard(output):
        for_the_command(_showing(Live(Spinner("dots", "Checking the recipe"), console=console, transient=True)))


@contextmanager
def _showing(live: Live) -> Iterator[None]:
    token = _shown.set(live)
    try:
        live.start(refresh=True)
        yield
    finally:
        live.stop()
        _shown.reset(token)


def _is_heard(output: Output) -> bool:
    """Whether a command prints progress, and this process is the one of its launch that does."""
    return not output.quiet and not output.json and os.environ.get("RANK", "0") == "0"


@contextmanager
def loading(output: Output) -> Iterator[None]:
    """Show that a model is being loaded: importing torch and the model's libraries takes seconds."""
    live = _shown.get()
    if live is not None:
        live.update(Spinner("dots", "Loading the model"), refresh=True)
    elif _is_heard(output):
        echo(LOADING, err=True)
    try:
        yield
    finally:
        if live is not None:
            live.stop()


@contextmanager
def kept(pipe: StreamPipeline, out: Path) -> Iterator[None]:
    """Where the run ends early, print where its record is: the observers have written it by then.

    What plugins print meanwhile goes to standard error: standard output is for the result.
    """

    def show_folder() -> None:
        if pipe.run is not None and len(pipe.tree) and pipe.workers.rank == 0:
            echo(f"What was generated so far is kept in {out}", err=True)

    with ExitStack() as stack:
        stack.callback(show_folder)
        ended = foreign_code("The run", passes=(Exception, KeyboardInterrupt))
        with redirect_stdout(sys.stderr), stoppable(), ended, _resumable(out):
            yield
        stack.pop_all()


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Where the process that records the run is gone, let another one's error have the command that resumes it."""
    from streamt1_plugins.runs.journal import JOURNAL

    try:
        yield
    except StreamT1Error as error:
        if getattr(error, "first_has_ended", False) and (out / JOURNAL).exists():
            error.args = (f"{error}. Resume with: streamt1 generate --resume {out}",)
        raise


def stoppable() -> AbstractContextManager[None]:
    """Let SIGTERM and SIGHUP end a run as Ctrl-C does, so that it is saved before a machine is taken away."""

    def stop(found: signal.Signals) -> None:
        raise SystemExit(128 + found)

    return on_ending(stop)


def check_usable(pipe: StreamPipeline, out: Path) -> None:
    """Raise `OutputError` where no chunk of the video is usable. One that is in part is noted, and no error."""
    path = [pipe.tree.nodes[name] for name in pipe.tree.winner]
    if path and not any(node.is_valid for node in path):
        raise OutputError(
            f"No chunk of this video is usable: {path[0].problem} The record is in {out}. Where the model overflows, "
            "load it in a wider dtype (-o adapter.dtype=bfloat16 or float32)."
        )


def show_result(output: Output, pipe: StreamPipeline, out: Path) -> None:
    """Print the table, the summary as JSON, or the path alone."""
    from streamt1_plugins.runs.files import writing

    with writing(f"The run is kept in {out}, but its result could not be printed"):
        _print_result(output, pipe, out)


def _print_result(output: Output, pipe: StreamPipeline, out: Path) -> None:
    from streamt1_plugins.runs.files import to_json
    from streamt1_plugins.runs.observers.console import counted, tree_table
    from streamt1_plugins.runs.observers.folder import RECIPE, SUMMARY, TREE
    from streamt1_plugins.runs.observers.record import video_file
    from streamt1_plugins.runs.report import PAGE

    video = video_file(out, pipe.recipe.observers)
    found = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
    if output.json:
        echo(printable_json(to_json({**found, "out": str(out), "video_file": str(video)})), nl=False)
        return
    if output.quiet:
        echo(str(video))
        return
    terminal().print(tree_table(pipe.tree))
    candidates, seconds = counted(found["cost"]["candidates"], "candidate"), found["seconds"]["wall"]
    if pipe.tree.picked:
        new, old = len(pipe.tree) - pipe.tree.inherited, pipe.tree.inherited
        candidates = f"{counted(new, 'new candidate')} and {old} of the run that it continues,"
    echo(f"\n{candidates} in {seconds:.1f} s, seed {found['seed']}")
    for name, spent in found.get("reward_profile", {}).items():
        echo(f"reward  {name.replace('.', ' ', 1)}: {spent['ms_per_candidate']:.1f} ms per candidate")
    echo(f"video   {video}")
    if (out / PAGE).exists():
        echo(f"page    {out / PAGE}")
    echo(f"folder  {out}  ({TREE}, {RECIPE}, {SUMMARY})")
