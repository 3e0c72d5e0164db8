"""Progress of a comparison on standard error: a bar in a terminal, a line per video elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from streamt1_plugins.runs.report.facts import duration, number
from streamt1_plugins.text.printable import one_line
from streamt1_plugins.text.terminal import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streamt1_plugins.compare.comparison import Comparison
    from streamt1_plugins.config.schema import Recipe


def show(rows: Iterable[Mapping[str, Any]], total: int) -> None:
    """Iterate over the rows and show each."""
    terminal = Console(stderr=True)
    with new_bar(terminal, "videos") as bar:
        task = bar.add_task("", total=total)
        for done, row in enumerate(rows, start=1):
            if not terminal.is_terminal:
                print_line(f"{done}/{total}  {_in_short(row)}  {row['prompt']}", terminal)
            bar.update(task, completed=done, description=one_line(_in_short(row)))


def print_plan(comparison: Comparison, missing: int) -> None:
    """Print how many videos the comparison has, how many of them exist, its recipes and its judge."""
    counts = (len(comparison.recipes), len(comparison.prompts), len(comparison.seeds))
    total = counts[0] * counts[1] * counts[2]
    factors = " x ".join(
        f"{n} {noun}{'s' * (n != 1)}" for n, noun in zip(counts, ("recipe", "prompt", "seed"), strict=True)
    )
    print_line(f"{factors}: {total} videos" + (f", {total - missing} of them done" if missing < total else ""))
    print_line(f"recipes: {', '.join(comparison.recipes)}; judge: {comparison.judge}")


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
