"""Progress of a probe on standard error: a bar in a terminal, a line per prompt elsewhere, and what is left."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare.progress import new_bar, print_line
from streamt1_plugins.runs.report.facts import duration
from streamt1_plugins.text.printable import one_line
from streamt1_plugins.text.terminal import Console

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.progress import Progress, TaskID

    from streamt1_plugins.probe.measure import ProbeOptions


def print_plan(prompts: int, missing: int, options: ProbeOptions) -> None:
    """Print how much is measured, and how much of it is there already."""
    done = f", {prompts - missing} of them measured" if missing < prompts else ""
    print_line(f"{prompts} prompt{'s' * (prompts != 1)}{done}; {options.candidates} candidates per chunk")


@contextmanager
def shown(total: int) -> Iterator[Shown]:
    """The progress of `total` prompts."""
    terminal = Console(stderr=True)
    with new_bar(terminal, "prompts") as bar:
        yield Shown(terminal, bar, bar.add_task("", total=total), total)


@dataclass
class Shown:
    """A bar, or lines where there is no terminal."""

    terminal: Console
    bar: Progress
    task: TaskID
    total: int
    finished: int = 0
    seconds: float = 0.0

    def advance(self, prompt: str, share: float) -> None:
        """Show which share of a prompt is measured."""
        self.bar.update(self.task, completed=self.finished + share, description=one_line(prompt))

    def done(self, row: Mapping[str, Any]) -> None:
        """Show that a prompt is measured."""
        self.finished += 1
        self.seconds += row["seconds"]
        left = self.seconds / self.finished * (self.total - self.finished)
        ahead = f"  about {duration(left)} left" if left else ""
        if not self.terminal.is_terminal:
            print_line(
                f"{self.finished}/{self.total}  {duration(row['seconds'])}{ahead}  {row['prompt']}", self.terminal
            )
