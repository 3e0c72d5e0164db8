"""Prompt schedules: the prompt may change where a chunk begins, with what becomes of the memory of the old scene."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from streamt1_plugins.errors import InputError, guess, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.api.adapter import Session

SceneMemory = Literal["keep", "recache", "flush"]
"""`keep`: remembered chunks stay as they are. `recache`: those in the window are committed again with the new prompt,
and sinks stay (LongLive). `flush`: nothing is remembered, the new scene begins like a video of its own."""

KEYS = ("chunk", "prompt", "memory")


@dataclass(frozen=True, slots=True)
class Scene:
    """The prompt from a chunk on, and what becomes of the memory there. Chunks count from 0."""

    chunk: int
    prompt: str
    memory: SceneMemory = "keep"

    def entry(self) -> dict[str, Any]:
        """The scene as an entry of a `schedule` argument."""
        return {"chunk": self.chunk, "prompt": self.prompt, "memory": self.memory}


@runtime_checkable
class HasScenes(Protocol):
    """A session whose prompt may change between chunks. Optional: only such adapters take the argument `schedule`."""

    scenes: tuple[Scene, ...]
    """In order; the first one begins at chunk 0. Empty where the call has no schedule."""


def scene_at(session: Session, chunk: int) -> Scene:
    """The scene that a chunk belongs to; the session's prompt from chunk 0 on where there is no schedule."""
    scenes = session.scenes if isinstance(session, HasScenes) else ()
    begun = [scene for scene in scenes if scene.chunk <= chunk]
    return begun[-1] if begun else Scene(0, session.prompt)


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
