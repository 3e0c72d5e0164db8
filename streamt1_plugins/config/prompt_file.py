"""Prompt files: a text file with a prompt per line, `#` starts a comment; what a line holds, or why it is no prompt.

A line may also be JSON, ``{"prompt": "...", "schedule": [...]}``, for a video whose prompt changes.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from streamt1_plugins.config.schedule import Scene, arguments, described, from_json, read_entry
from streamt1_plugins.config.user_files import lines, read_text, user_path
from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_BYTES = 20_000_000
LONGEST = 20_000
"""Characters of a prompt; text encoders read a few thousand."""

SHOWN = 5
"""Wrong lines in one message."""


@dataclass(frozen=True)
class PromptLine:
    """A prompt of a file and the number of its line. `problem`: why it cannot be used, None where it can.

    `scenes`: where the prompt changes, empty where it does not; `text` then has all of them.
    """

    number: int
    text: str
    problem: str | None = None
    scenes: tuple[Scene, ...] = ()

    @classmethod
    def of(cls, number: int, scenes: tuple[Scene, ...]) -> PromptLine:
        """The line of a video with these scenes."""
        return cls(number, described(scenes), None, scenes if len(scenes) > 1 else ())

    @property
    def prompt(self) -> str:
        """The prompt of the first scene, which is the prompt of the call."""
        return self.scenes[0].prompt if self.scenes else self.text

    @property
    def prompts(self) -> list[str]:
        """The prompts of all scenes."""
        return [scene.prompt for scene in self.scenes] or [self.text]

    @property
    def call(self) -> dict[str, Any]:
        """The arguments of the call besides its prompt."""
        return arguments(self.scenes)


def prompt_lines(path: str | Path, check: Callable[[PromptLine], None] | None = None) -> list[PromptLine]:
    """The lines of a prompt file that hold prompts, also those that cannot be used.

    check: raises `InputError` for a prompt that cannot be used.

    The file is UTF-8, or UTF-16 or UTF-32 with a byte order mark; lines end with LF, CR LF or CR. Raises `InputError`
    for a file that cannot be read or holds no prompt.
    """
    text = read_text(user_path(path), "The prompt file", MAX_BYTES)
    stripped = ((number, line.strip(" \t\ufeff")) for number, line in enumerate(lines(text), start=1))
    found = [_read(number, line) for number, line in stripped if line and line[0] != "#"]
    if not found:
        raise InputError(f"{path} holds no prompts: one per line, # starts a comment.")
    return found if check is None else [_checked(line, check) for line in found]


def _read(number: int, line: str) -> PromptLine:
    if not _ENTRY.match(line):
        return PromptLine(number, line, _problem(line))
    try:
        scenes = read_entry(from_json(line))
    except InputError as error:
        return PromptLine(number, line, str(error))
    problem = next(filter(None, (_problem(scene.prompt) for scene in scenes)), None)
    return replace(PromptLine.of(number, scenes), problem=problem)


def _checked(line: PromptLine, check: Callable[[PromptLine], None]) -> PromptLine:
    if line.problem is None:
        try:
            check(line)
        except InputError as error:
            return replace(line, problem=str(error))
    return line


def refuse_scenes(line: PromptLine) -> None:
    """Raise `InputError` for a prompt that changes."""
    if line.scenes:
        raise InputError("The prompt changes, and here a video has one. Leave `schedule` out.")


def read_prompts(path: str | Path) -> list[str]:
    """The prompts of a text file: one per line, ``#`` starts a comment.

    Raises `InputError` for a file that cannot be read, and for lines that are no single prompts, with their numbers.
    """
    found = prompt_lines(path, refuse_scenes)
    if wrong := [f"line {line.number}: {line.problem}".rstrip(".") for line in found if line.problem]:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise InputError(f"{path}: {'; '.join(wrong[:SHOWN])}{more}.")
    return [line.text for line in found]


def _problem(prompt: str) -> str | None:
    """Why a line is no prompt: it is too long, or has characters that are no text."""
    if len(prompt) > LONGEST:
        return f"{len(prompt)} characters, at most {LONGEST}"
    if found := _NO_TEXT.search(prompt):
        name = unicodedata.name(found.group(), "a control character")
        return f"character {found.start() + 1} is U+{ord(found.group()):04X} ({name}), which is no part of a text"
    return None


_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""Control characters but the tab, the line separators of Unicode, and what is no character."""

_ENTRY = re.compile(r"\{\s*\"")
"""What begins a line that is JSON."""
