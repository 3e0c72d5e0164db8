"""Progress of a probe on standard error: a bar in a terminal, a line per prompt elsewhere, and what is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamt1_plugins.compare import progress
from streamt1_plugins.compare.progress import Shown, print_line
from streamt1_plugins.runs.report.facts import duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from streamt1_plugins.probe.measure import ProbeOptions


def print_plan(prompts: int, missing: int, options: ProbeOptions) -> None:
    """Print how much is measured, and how much of it is there already."""
    done = f", {prompts - missing} of them measured" if missing < prompts else ""
    print_line(f"{prompts} prompt{'s' * (prompts != 1)}{done}; {options.candidates} candidates per chunk")


def shown(total: int) -> AbstractContextManager[Shown]:
    """The progress of `total` prompts."""
    return progress.shown(total, "prompts")


def measured(shown: Shown, row: Mapping[str, Any]) -> None:
    """Show that a prompt is measured."""
    shown.done(duration(row["seconds"]), row["seconds"], row["prompt"])
