"""Run folders of a batch: found by what they hold, a prompt under a recipe and a seed, whatever they are called."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any, Literal

from streamt1_plugins.config.schedule import Scene, read_entry
from streamt1_plugins.errors import InputError, StreamT1Error
from streamt1_plugins.runs.files import JOURNAL, check_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from streamt1_plugins.config.prompt_file import PromptLine
    from streamt1_plugins.runs.recorded import RecordedRun

NAME_LENGTH = 80
FIRST_LINE = 1_000_000  # bytes of a journal's first line, which holds a recipe and a prompt

State = Literal["new", "begun", "done"]


class OtherRunError(InputError):
    """A folder of the batch holds a run of another prompt or recipe."""


class Folders:
    """The run folders in `out`, read once: which one holds the video of a prompt under a recipe."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._known: dict[str, list[Path]] = {}
        self._taken: set[Path] = set()
        for folder in sorted(out.iterdir()) if out.is_dir() else ():
            prompt = _prompt_of(folder)
            if prompt is not None:
                self._known.setdefault(prompt, []).append(folder)
            if (folder / JOURNAL).exists():
                self._taken.add(folder)

    def of(self, line: PromptLine, recipe: Mapping[str, Any], name: str) -> Path:
        """The folder that holds this video, whatever it is called, else a free one: `name`, or `name-2` and so on."""
        found = {_held(folder, line, recipe): folder for folder in reversed(self._known.get(line.prompt, ()))}
        for state in ("done", "begun"):
            if state in found:
                return found[state]
        names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
        free = next(self._out / each for each in names if self._out / each not in self._taken)
        self._taken.add(free)
        return free


def folder_name(number: int, prompt: str, seed: int | None = None) -> str:
    """The name of a new run folder: the prompt's number in the file, its first words, and one of several seeds."""
    ending = "" if seed is None else f"-seed-{seed}"
    return "-".join([f"{number:04d}", *words_of(prompt)])[: NAME_LENGTH - len(ending)].rstrip("-") + ending


def words_of(prompt: str) -> list[str]:
    """The first eight words of a prompt, as they stand in the name of a folder."""
    return re.findall(r"[a-z0-9]+", prompt.lower())[:8]


def state_of(folder: Path, line: PromptLine, recipe: Mapping[str, Any]) -> State:
    """Whether a prompt's run is new, begun or done. Raises `OtherRunError` for a run of another one."""
    from streamt1_plugins.runs.recorded import RecordedRun

    if not (folder / JOURNAL).exists():
        return "new"
    recorded = RecordedRun.read(folder)
    if not _is_of(recorded, line, recipe):
        raise OtherRunError(f"{folder} holds a run of another prompt or recipe. Choose another --out.")
    return "done" if recorded.status == "finished" else "begun"


def _held(folder: Path, line: PromptLine, recipe: Mapping[str, Any]) -> State | None:
    """The state of this video in a folder, None where it holds another one."""
    try:
        return state_of(folder, line, recipe)
    except StreamT1Error:  # another recipe's, or damaged
        return None


def _is_of(recorded: RecordedRun, line: PromptLine, recipe: Mapping[str, Any]) -> bool:
    if recorded.start["prompt"] != line.prompt or recorded.start["seed"] != recipe["seed"]:
        return False
    scenes = read_entry(recorded.start["call"].get("schedule") or [], line.prompt)
    if scenes != (line.scenes or (Scene(0, line.prompt),)):
        return False
    then = recorded.recipe.model_dump(mode="json")
    if _sizes(recipe, {}) != _sizes(then, recorded.start["call"]):
        return False
    wanted = [_comparable(each) for each in _settled(recipe)]
    return any(each in wanted for each in map(_comparable, _readings(recorded)))


def _settled(recipe: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A recipe as a run may record it: with previews, or without where the adapter has no decoder for them."""
    from streamt1_plugins.config.load import load
    from streamt1_plugins.search.previews import settled, wanted

    yield recipe
    whole = load(dict(recipe))
    if wanted(whole):
        yield from (settled(whole, each).model_dump(mode="json") for each in (True, False))


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
