"""What a comparison says while it runs, on standard error: a bar in a terminal, a line per video elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from streamt1_plugins.runs.report.facts import duration, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streamt1_plugins.compare.comparison import Comparison
    from streamt1_plugins.config.schema import Recipe


def follow(rows: Iterable[Mapping[str, Any]], total: int) -> None:
    """Take the rows as they are made and say of each what it is."""
    terminal = Console(stderr=True, highlight=False)
    with _bar(terminal) as bar:
        task = bar.add_task("", total=total)
        for done, row in enumerate(rows, start=1):
            if not terminal.is_terminal:
                _say(f"{done}/{total}  {_made(row)}  {row['prompt']}", terminal)
            bar.update(task, completed=done, description=_made(row))


def plan(comparison: Comparison, missing: int) -> None:
    """Say what is going to be made."""
    counts = (len(comparison.recipes), len(comparison.prompts), len(comparison.seeds))
    total = counts[0] * counts[1] * counts[2]
    factors = " x ".join(
        f"{n} {noun}{'s' * (n != 1)}" for n, noun in zip(counts, ("recipe", "prompt", "seed"), strict=True)
    )
    _say(f"{factors}: {total} videos" + (f", {total - missing} of them there" if missing < total else ""))
    _say(f"recipes: {', '.join(comparison.recipes)}; judge: {comparison.judge}")


def counted(measure: Callable[[Recipe], int]) -> Callable[[Recipe], int]:
    """The same measure, which says what it found the first time that it is asked for a recipe."""
    told: set[str] = set()

    def telling(recipe: Recipe) -> int:
        forwards, what = measure(recipe), f"{recipe.search.candidates} x {recipe.search.top_k} candidates per chunk"
        line = f"forwards of {recipe.description or 'a recipe'}, {what}: {forwards}"
        if line not in told:
            told.add(line)
            _say(line)
        return forwards

    return telling


def _made(row: Mapping[str, Any]) -> str:
    return f"{row['recipe']}  {number(row['judge']['score'])}  {duration(row['seconds'])}"


def _say(text: str, terminal: Console | None = None) -> None:
    (terminal or Console(stderr=True, highlight=False)).print(text, markup=False, soft_wrap=True)


def _bar(terminal: Console) -> Progress:
    return Progress(
        TextColumn("videos"),
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
