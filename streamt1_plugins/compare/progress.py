"""Progress of a comparison on standard error: a bar in a terminal, a line per video elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.runs.report.facts import duration, number
from streamt1_plugins.text.printable import one_line
from streamt1_plugins.text.terminal import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from rich.progress import TaskID

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk
    from streamt1_plugins.compare.comparison import Comparison
    from streamt1_plugins.config.schema import Recipe


@dataclass
class Shown:
    """A bar in a terminal. Elsewhere a line for each that is done, and one after `pause` seconds without any."""

    terminal: Console
    bar: Progress
    task: TaskID
    total: int
    finished: int = 0
    seconds: float = 0.0
    pause: float = 60.0
    _printed: float = 0.0

    def __post_init__(self) -> None:
        self._printed = monotonic()

    def advance(self, text: str, share: float) -> None:
        """Show which share of the next one is done."""
        self.bar.update(self.task, completed=self.finished + share, description=one_line(text))
        if not self.terminal.is_terminal and monotonic() - self._printed >= self.pause:
            self._print(f"{self.finished + 1}/{self.total}  {100 * share:.0f} %  {text}")

    def done(self, text: str, seconds: float, prompt: str = "") -> None:
        """Show that one is done, in so many seconds, and how long those that are left will take at the mean of all."""
        self.finished += 1
        self.seconds += seconds
        left = self.seconds / self.finished * (self.total - self.finished)
        parts = [text, f"about {duration(left)} left" if left else "", prompt]
        if not self.terminal.is_terminal:
            self._print("  ".join([f"{self.finished}/{self.total}", *filter(None, parts)]))
        self.bar.update(self.task, completed=self.finished, description=one_line(text))

    def _print(self, line: str) -> None:
        print_line(line, self.terminal)
        self._printed = monotonic()


@contextmanager
def shown(total: int, what: str) -> Iterator[Shown]:
    """The progress of `total` of `what`."""
    terminal = Console(stderr=True)
    with new_bar(terminal, what) as bar:
        yield Shown(terminal, bar, bar.add_task("", total=total), total)


@dataclass(eq=False)
class VideoProgress:
    """An observer that shows how far a video is, while the videos of a comparison are shown."""

    shown: Shown | None = None

    @hookimpl
    def streamt1_chunk_selected(self, run: Run, chunk: Chunk) -> None:
        if self.shown is not None:
            done = chunk.index + 1
            self.shown.advance(f"chunk {done} of {chunk.count}  {run.prompt}", done / chunk.count)


def show(rows: Iterable[Mapping[str, Any]], total: int, inside: VideoProgress | None = None) -> None:
    """Iterate over the rows and show each, and how far the next video is where the pipelines have `inside` observe."""
    with shown(total, "videos") as videos:
        if inside is not None:
            inside.shown = videos
        for row in rows:
            videos.done(_in_short(row), row["seconds"], row["prompt"])


def print_plan(comparison: Comparison, missing: int) -> None:
    """Print how many videos the comparison has, how many of them exist, its recipes and its judge."""
    counts = (len(comparison.recipes), len(comparison.prompts), len(comparison.seeds))
    total = counts[0] * counts[1] * counts[2]
    factors = " x ".join(
        f"{n} {noun}{'s' * (n != 1)}" for n, noun in zip(counts, ("recipe", "prompt", "seed"), strict=True)
    )
    print_line(f"{factors}: {total} videos" + (f", {total - missing} of them done" if missing < total else ""))
    print_line(f"recipes: {', '.join(comparison.recipes)}; judge: {comparison.judge}")


def print_others(videos: int) -> None:
    """Print how many videos another process makes, if any, so that the table is without them."""
    if videos:
        which = "1 video is" if videos == 1 else f"{videos} videos are"
        print_line(f"{which} being made by another process, which writes tables and page anew when it ends.")


def printing_counts(count: Callable[[Recipe], int]) -> Callable[[Recipe], int]:
    """`count`, which also prints the forwards of each recipe once."""
    printed: set[str] = set()

    def counted(recipe: Recipe) -> int:
        forwards, width = count(recipe), f"{recipe.search.candidates} x {recipe.search.top_k} candidates per chunk"
        line = f"forwards of {recipe.description or 'a recipe'}, {width}: {forwards}"
        if line not in printed:
            printed.add(line)
            print_line(line)
        return forwards

    return counted


def _in_short(row: Mapping[str, Any]) -> str:
    return f"{row['recipe']}  {number(row['judge']['score'])}  {duration(row['seconds'])}"


def print_line(text: str, terminal: Console | None = None) -> None:
    """Print a line on standard error. It may hold a prompt, and cannot steer the terminal."""
    (terminal or Console(stderr=True)).print(one_line(text), markup=False, soft_wrap=True)


def new_bar(terminal: Console, what: str) -> Progress:
    """A bar that counts `what`; it shows nothing where there is no terminal."""
    return Progress(
        TextColumn(what),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
        speed_estimate_period=3600.0,
    )
