"""Prompt schedules as people write them: scenes, each with the chunk it begins at; read, checked and put in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

from streamt1_plugins.config import yaml12
from streamt1_plugins.config.user_files import read_text, user_path
from streamt1_plugins.errors import InputError, RecipeError, guess, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES = 1_000_000
"""Of a file with one schedule."""

SceneMemory = Literal["keep", "recache", "flush"]
"""`keep`: remembered chunks stay as they are. `recache`: the memory is written again with the new prompt, of a KV cache
with sinks the window alone (LongLive). `flush`: nothing is remembered, the new scene begins like a video of its own."""

KEYS, ENTRY = ("chunk", "prompt", "memory"), ("prompt", "schedule")
"""Of a scene, and of an entry in a file of prompts."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The prompt from a chunk on, and what becomes of the memory there. Chunks count from 0."""

    chunk: int
    prompt: str
    memory: SceneMemory = "keep"

    def entry(self) -> dict[str, Any]:
        """The scene as an entry of a `schedule` argument."""
        return {"chunk": self.chunk, "prompt": self.prompt, "memory": self.memory}


def scenes_of(schedule: Any, prompt: str | None) -> tuple[Scene, ...]:
    """The scenes of a `schedule` argument, ``[{"chunk": 7, "prompt": "...", "memory": "flush"}, ...]``.

    `prompt`: the call's own prompt, which is the first scene where the schedule begins later than at chunk 0. Raises
    `InputError` for anything else, with the entry and the nearest name.
    """
    if isinstance(schedule, (str, bytes, Mapping)) or not isinstance(schedule, Iterable):
        raise InputError(f"`schedule` has to be a list of scenes such as {_EXAMPLE}, got {shown(schedule)}.")
    scenes = [_scene(entry, f"schedule[{place}]") for place, entry in enumerate(schedule)]
    for place, (before, scene) in enumerate(pairwise(scenes), 1):
        if scene.chunk <= before.chunk:
            raise InputError(f"schedule[{place}].chunk = {scene.chunk} has to be above {before.chunk}, the one before.")
    if not scenes:
        return ()
    if scenes[0].chunk > 0:
        if prompt is None:
            raise InputError("`schedule` begins after chunk 0, so `prompt` has to be given for the first chunks.")
        scenes.insert(0, Scene(0, prompt))
    elif prompt is not None and prompt != scenes[0].prompt:
        raise InputError("Both `prompt` and schedule[0] are for chunk 0. Leave one of them out.")
    return tuple(scenes)


_EXAMPLE = '[{"chunk": 7, "prompt": "now it rains", "memory": "flush"}]'


def _scene(entry: Any, where: str) -> Scene:
    if isinstance(entry, Scene):
        entry = {"chunk": entry.chunk, "prompt": entry.prompt, "memory": entry.memory}
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} has to be a mapping such as {_EXAMPLE[1:-1]}, got {shown(entry)}.")
    for name in entry:
        if name not in KEYS:
            raise InputError(f"{where}: unknown key {name!r}.{guess(str(name), KEYS)} Known: {', '.join(KEYS)}.")
    chunk, prompt, memory = entry.get("chunk"), entry.get("prompt"), entry.get("memory", "keep")
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 0:
        raise InputError(f"{where}.chunk has to be a whole number from 0 on, got {shown(chunk)}.")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"{where}.prompt has to be a text, got {shown(prompt)}.")
    if memory not in get_args(SceneMemory):
        known = get_args(SceneMemory)
        raise InputError(
            f"{where}.memory has to be {' or '.join(known)}, got {shown(memory)}.{guess(str(memory), known)}"
        )
    return Scene(chunk, prompt, memory)


def changed(scenes: Sequence[Scene], later: Sequence[Scene]) -> tuple[Scene, ...]:
    """The scenes with `later` ones among them, each in the place of one that begins with the same chunk."""
    by_chunk = {scene.chunk: scene for scene in (*scenes, *later)}
    return tuple(by_chunk[chunk] for chunk in sorted(by_chunk))


def check_scenes(scenes: Sequence[Scene], chunks: int) -> None:
    """Raise `InputError` for a scene that begins after the end of the video."""
    if scenes and scenes[-1].chunk >= chunks:
        raise InputError(
            f"A scene begins at chunk {scenes[-1].chunk}, but the video has the chunks 0 to {chunks - 1}. Lower it, or "
            "ask for more frames."
        )


def described(scenes: Sequence[Scene]) -> str:
    """The scenes in one line, ``the sun shines; from chunk 7 (flush): it rains``: no two schedules have the same."""
    first, *later = scenes
    return "; ".join([first.prompt, *(f"from chunk {each.chunk} ({each.memory}): {each.prompt}" for each in later)])


def arguments(scenes: Sequence[Scene]) -> dict[str, Any]:
    """The arguments of a call besides its prompt, as data that a file can hold: none for a video of one scene."""
    return {"schedule": plain(scenes[1:])} if len(scenes) > 1 else {}


def plain(schedule: Any) -> Any:
    """A `schedule` argument with its scenes as data; anything else as it is."""
    if not isinstance(schedule, (list, tuple)):
        return schedule
    return [asdict(each) if isinstance(each, Scene) else each for each in schedule]


def read_entry(data: Any, prompt: str | None = None) -> tuple[Scene, ...]:
    """The scenes of ``{"prompt": ..., "schedule": [...]}``, which may lack one of the two, or of a list of scenes.

    prompt: that of the first scene, given elsewhere. A video whose prompt does not change has one scene. Raises
    `InputError`.
    """
    schedule = data
    if isinstance(data, Mapping):
        prompt, schedule = _prompt_in(data, prompt), data.get("schedule", [])
    scenes = scenes_of(schedule, prompt)
    if not scenes and prompt is None:
        raise InputError("Neither `prompt` nor `schedule` is given.")
    return scenes or (Scene(0, str(prompt)),)


def _prompt_in(data: Mapping[str, Any], prompt: str | None) -> str | None:
    for name in data:
        if name not in ENTRY:
            raise InputError(f"unknown key {name!r}.{guess(str(name), ENTRY)} Known: {', '.join(ENTRY)}.")
    own = data.get("prompt")
    if own is not None and (not isinstance(own, str) or not own.strip()):
        raise InputError(f"`prompt` has to be a text, got {shown(own)}.")
    if own is not None and prompt is not None:
        raise InputError("The prompt is given twice, beside the schedule and in it. Leave one of them out.")
    return prompt if own is None else own


def from_json(text: str) -> Any:
    """The data of a JSON text. Raises `InputError` with the place of a mistake, also for a key that is there twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InputError(f"this is not JSON: {error.msg}, at character {error.pos + 1}") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits, too many brackets
        raise InputError(f"this is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"the key {twice[0]!r} is there twice")
    return dict(pairs)


def read_schedule(given: str, prompt: str | None) -> tuple[Scene, ...]:
    """The scenes of a YAML or JSON file, or of a text that begins with [, as `read_entry` reads them.

    prompt: that of the first scene, where the schedule has none. Raises `InputError` with what is wrong, and where.
    """
    is_text = given.lstrip().startswith("[")
    what = "The schedule" if is_text else f"The schedule {given!r}"
    data = _data(given if is_text else read_text(user_path(given), "The schedule", MAX_BYTES), what)
    try:
        return read_entry(data, prompt)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def _data(text: str, what: str) -> Any:
    try:
        return from_json(text)
    except InputError:  # YAML, which is nearly all of JSON
        pass
    try:
        return yaml12.read(text, what)
    except RecipeError as error:
        raise InputError(str(error)) from error
