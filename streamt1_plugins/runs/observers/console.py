"""A run on the terminal: a progress bar, or plain lines where there is no terminal, and the table at the end."""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.text.printable import one_line
from streamt1_plugins.text.terminal import Console as Terminal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Chunk, Revision


_printed: set[int] = set()
"""The numbers of threads that this process has printed: once is enough, however many videos it makes."""


@dataclass(eq=False)
class Console:
    """Shows progress on standard error: a bar in a terminal, one line per chunk elsewhere.

    plain: lines in a terminal too. label: what stands before the progress, where a command makes several videos.
    """

    plain: bool = False
    label: str = field(default="", metadata={"acts": "text"})

    def __post_init__(self) -> None:
        self._terminal = Terminal(file=_StandardError())
        self._bar: _Bar | None = None
        self._noted = 0

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        self._noted = 0
        if run.threads is not None and run.threads not in _printed:
            _printed.add(run.threads)
            self._print(threads_line(run.threads))
        if self._terminal.is_terminal and not self.plain:
            self._bar = _Bar(run, self._terminal, self.label)
            self._bar.start()

    @hookimpl
    def streamt1_revised(self, run: Run, revision: Revision) -> None:
        if self._bar is not None:
            self._bar.revised(revision)
        self._print_new(run.tree.notes)

    @hookimpl
    def streamt1_chunk_selected(self, run: Run, chunk: Chunk) -> None:
        if self._bar is None:
            self._print(f"{self.label}  {chunk_line(chunk, run.tree)}" if self.label else chunk_line(chunk, run.tree))
        else:
            self._bar.chunk_done(chunk)
        self._print_new(run.tree.notes)

    @hookimpl
    def streamt1_run_finished(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._print_new(run.tree.notes)

    def _print_new(self, notes: Sequence[str]) -> None:
        for note in notes[self._noted :]:
            self._print(f"Note: {note}")
        self._noted = len(notes)

    def _print(self, text: str) -> None:
        self._terminal.print(one_line(text), markup=False, soft_wrap=True)


class _StandardError:
    """Standard error, whose text is lost where it is a terminal or a pipe that was closed: a run is worth more."""

    @property
    def rich_proxied_file(self) -> _StandardError:
        """What rich writes to while a bar is shown: its own stand-in for standard error would lead back here."""
        return self

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):  # a program without a console has no standard error
            return int(_behind_a_bar(sys.stderr).write(text))
        return 0

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            _behind_a_bar(sys.stderr).flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(_behind_a_bar(sys.stderr), name)


def _behind_a_bar(stream: Any) -> Any:
    return getattr(stream, "rich_proxied_file", stream)


class _Bar(Progress):
    """Advances within a chunk as well: candidates of a large model take minutes, and none has an event."""

    def __init__(self, run: Run, terminal: Terminal, label: str = "") -> None:
        self._run = run
        self._done, self._before = run.beams[0].history.index, run.cost.candidates
        super().__init__(
            *([TextColumn("{task.fields[label]}", markup=False)] if label else ()),
            TextColumn("{task.fields[done]}/{task.total:.0f} chunks"),
            BarColumn(bar_width=10 if label else 20),
            TextColumn("{task.fields[candidates]} candidates  best {task.fields[best]}"),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            console=terminal,
            transient=True,
            speed_estimate_period=3600.0,
        )
        label, done = one_line(label), self._done
        self.add_task("", total=run.session.num_chunks, done=done, candidates=0, best="-", label=label)

    def chunk_done(self, chunk: Chunk) -> None:
        """The chunk's candidates are judged and its survivors committed."""
        self._done, self._before = chunk.index + 1, self._run.cost.candidates
        best = max(self._run.tree.scores(chunk.index), default=math.nan)
        self.update(self.task_ids[0], best=_number(best))

    def revised(self, revision: Revision) -> None:
        """Another round begins, or a chunk that was done comes again."""
        self._before = self._run.cost.candidates
        self._done = self._done if revision.back_to is None else revision.back_to

    def get_renderables(self) -> Iterable[RenderableType]:
        """The lines of the bar; called for every frame of the display, the first time before there is a task."""
        search, total, candidates = self._run.recipe.search, self._run.session.num_chunks, self._run.cost.candidates
        part = min((candidates - self._before) / (search.candidates * search.top_k), 1.0)
        for task in self.task_ids:
            self.update(task, completed=min(self._done + part, total), done=self._done, candidates=candidates)
        return super().get_renderables()


def chunk_line(chunk: Chunk, tree: Tree) -> str:
    """One chunk in one line: its number, candidates, best and mean score, ids kept, seconds, how many are done."""
    nodes, (_, best, mean) = tree.chunk(chunk.index), _figures(tree, chunk.index)
    seconds, kept = sum(node.seconds for node in nodes), " ".join(node.id for node in tree.kept(chunk.index))
    return (
        f"chunk {chunk.index}  {counted(len(nodes), 'candidate')}  best {best}  mean {mean}  "
        f"kept {kept}  {seconds:.1f} s  ({chunk.index + 1} of {chunk.count} done)"
    )


def threads_line(count: int) -> str:
    """How many CPU threads a run works with, and where that is set."""
    return f"Using {counted(count, 'CPU thread')} (another number: --threads N, or placement.threads)"


def counted(number: int, noun: str) -> str:
    """`1 candidate`, `2 candidates`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def tree_table(tree: Tree) -> Table:
    """The tree chunk by chunk: candidates, best and mean score, kept ids (best first, the winner's in bold), routes."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("chunk", "candidates", "best", "mean"):
        table.add_column(name, justify="right")
    for name in ("kept", "route"):
        table.add_column(name)
    for index in tree.chunks():
        kept = tree.kept(index)
        names = {node.id: escape(node.id) for node in kept}
        ids = " ".join(f"[bold]{name}[/bold]" if node in tree.winner else name for node, name in names.items())
        routes = escape(" ".join(node.route or "-" for node in kept))
        table.add_row(str(index), *_figures(tree, index), ids, routes)
    return table


def _figures(tree: Tree, index: int) -> tuple[str, str, str]:
    """How many candidates a chunk has, their best score and their mean score."""
    nodes, scores = tree.chunk(index), tree.scores(index) or [math.nan]
    invalid = sum(not node.is_valid for node in nodes)
    count = f"{len(nodes)} ({invalid} invalid)" if invalid else str(len(nodes))
    return count, _number(max(scores)), _number(fmean(scores))


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
