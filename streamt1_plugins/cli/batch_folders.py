"""Run folders of a batch: found by what they hold, a prompt under a recipe and a seed, whatever they are called."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from streamt1_plugins.errors import InputError, StreamT1Error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from streamt1_plugins.runs.recorded import RecordedRun

NAME_LENGTH = 80
DIGITS = 6  # of the digest in a name, for prompts with the same first words
FIRST_LINE = 1_000_000  # bytes of a journal's first line, which holds a recipe and a prompt

State = Literal["new", "begun", "done"]


class OtherRunError(InputError):
    """A folder of the batch holds a run of another prompt or recipe."""


class Folders:
    """The run folders in `out`, read once: which one holds the video of a prompt under a recipe."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._known: dict[str, list[Path]] = {}
        for folder in sorted(out.iterdir()) if out.is_dir() else ():
            prompt = _prompt_of(folder)
            if prompt is not None:
                self._known.setdefault(prompt, []).append(folder)

    def of(self, prompt: str, recipe: Mapping[str, Any]) -> Path:
        """The folder that holds this video, under whatever name, else a free one named by the prompt and the seed."""
        for folder in self._known.get(prompt, ()):
            if _holds(folder, prompt, recipe):
                return folder
        name, taken = folder_name(prompt, recipe["seed"]), set(self._known.get(prompt, ()))
        names = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
        return next(self._out / each for each in names if self._out / each not in taken)


def folder_name(prompt: str, seed: int) -> str:
    """The name of a new run folder: the prompt's first words, the seed, and a digest of the prompt."""
    digest = sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
    ending = f"seed-{seed}-{digest}"
    words = "-".join(words_of(prompt))[: NAME_LENGTH - len(ending) - 1].rstrip("-")
    return f"{words}-{ending}" if words else ending


def words_of(prompt: str) -> list[str]:
    """The first eight words of a prompt, as they stand in the name of a folder."""
    return re.findall(r"[a-z0-9]+", prompt.lower())[:8]


def state_of(folder: Path, prompt: str, recipe: Mapping[str, Any]) -> State:
    """Whether a prompt's run is new, begun or done. Raises `OtherRunError` for a run of another one."""
    from streamt1_plugins.runs.journal import JOURNAL
    from streamt1_plugins.runs.recorded import RecordedRun

    if not (folder / JOURNAL).exists():
        return "new"
    recorded = RecordedRun.read(folder)
    if not _is_of(recorded, prompt, recipe):
        raise OtherRunError(f"{folder} holds a run of another prompt or recipe. Choose another --out.")
    return "done" if recorded.status == "finished" else "begun"


def _holds(folder: Path, prompt: str, recipe: Mapping[str, Any]) -> bool:
    try:
        return state_of(folder, prompt, recipe) != "new"
    except StreamT1Error:  # another recipe's, or damaged
        return False


def _is_of(recorded: RecordedRun, prompt: str, recipe: Mapping[str, Any]) -> bool:
    if recorded.start["prompt"] != prompt or recorded.start["seed"] != recipe["seed"]:
        return False
    wanted = (_comparable(recipe), _sizes(recipe, {}))
    then = recorded.recipe.model_dump(mode="json")
    return wanted[1] == _sizes(then, recorded.start["call"]) and wanted[0] in map(_comparable, _readings(recorded))


def _readings(recorded: RecordedRun) -> Iterator[dict[str, Any]]:
    """A recorded recipe as it was written, then with the defaults of options that parts have had since."""
    from streamt1_plugins.plugins.resolve import resolve

    yield recorded.recipe.model_dump(mode="json")
    yield resolve(recorded.recipe).model_dump(mode="json")


def _comparable(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the video, but for its size, which runs of earlier versions have in their call alone."""
    from streamt1_plugins.runs.journal import decisive

    return {**decisive(recipe), "model": recipe["model"], "video": None}


def _sizes(recipe: Mapping[str, Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """The size of the video: what the call has counts before what the recipe has."""
    sizes: dict[str, Any] = recipe["video"]
    return {name: size if call.get(name) is None else call[name] for name, size in sizes.items()}


def _prompt_of(folder: Path) -> str | None:
    """The prompt of the run that a folder holds, None where it holds none that can be read."""
    from streamt1_plugins.runs.files import JOURNAL, check_plain

    file = folder / JOURNAL
    try:
        if not file.is_file():
            return None
        check_plain(file)
        with file.open("rb") as journal:
            started = json.loads(journal.readline(FIRST_LINE))
        return str(started["prompt"])
    except (StreamT1Error, OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
