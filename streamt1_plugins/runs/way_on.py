"""What to do next with a run folder: a command where a command made the run, a line of Python elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_command: ContextVar[bool] = ContextVar("command", default=False)


@contextmanager
def command_line() -> Iterator[None]:
    """What runs inside was started by a command, which shows progress of its own."""
    token = _command.set(True)
    try:
        yield
    finally:
        _command.reset(token)


def is_command() -> bool:
    """Whether a command started what runs now, not a program in Python."""
    return _command.get()


def resume_with(folder: str | Path) -> str:
    """How to finish the run in `folder`."""
    return f"streamt1 generate --resume {folder}" if is_command() else f'streamt1_plugins.resume("{folder}", pipe)'


def continue_with(folder: str | Path, node: str) -> str:
    """How to start a new run from a node of the one in `folder`."""
    if is_command():
        return f"streamt1 replay {folder} --continue-from {node}"
    return f'streamt1_plugins.branch("{folder}", "{node}", "{folder}-{node}", pipe)'


def start_with(recipe: str | Path) -> str:
    """How to start a new run with a recipe file."""
    return f"streamt1 generate PROMPT --recipe {recipe}" if is_command() else f'streamt1_plugins.wrap(pipe, "{recipe}")'


def in_python(folder: str | Path) -> str:
    """What takes the pipeline of a run in `folder` that was wrapped in Python: no command can load it."""
    return f'streamt1_plugins.resume("{folder}", pipe), regenerate("{folder}", node, pipe) or branch(...)'
