"""A prompt that changes, for adapters of stock pipelines: scenes of a call, their texts, and what a chunk remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from streamt1_plugins.api.scenes import scenes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamt1_plugins.api.scenes import Scene

T = TypeVar("T")


def split_schedule(call: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Scene, ...]]:
    """(The call without `schedule` and with the prompt of its first scene, its scenes); no scenes without a schedule.

    Raises `InputError` for a schedule that is none.
    """
    rest = {name: value for name, value in call.items() if name != "schedule"}
    if call.get("schedule") is None:
        return rest, ()
    prompt: Any = call.get("prompt")
    if isinstance(prompt, (list, tuple)) and len(prompt) == 1:
        (prompt,) = prompt
    scenes = scenes_of(call["schedule"], prompt)
    return ({**rest, "prompt": scenes[0].prompt} if scenes else rest), scenes


def scene_texts(scenes: Sequence[Scene], call: Mapping[str, Any], encode: Callable[[Mapping[str, Any]], T]) -> list[T]:
    """What `encode` returns for the call with the prompt of each scene, in order, or for the call as it is.

    Each prompt is encoded once: scenes with the same prompt have the same object.
    """
    made = {call["prompt"]: encode(call)}
    for scene in scenes:
        if scene.prompt not in made:
            made[scene.prompt] = encode({**call, "prompt": scene.prompt})
    return [made[scene.prompt] for scene in scenes] or [made[call["prompt"]]]


def scene_index(scenes: Sequence[Scene], chunk: int) -> int:
    """Which scene a chunk belongs to, 0 without scenes."""
    return max(0, sum(scene.chunk <= chunk for scene in scenes) - 1)


def remembered_from(scenes: Sequence[Scene], chunk: int) -> int:
    """The first chunk that `chunk` may remember: where the last scene with `flush` begins, itself included, else 0."""
    return max((scene.chunk for scene in scenes if scene.memory == "flush" and scene.chunk <= chunk), default=0)
