"""Sessions whose prompt may change where a chunk begins, with what becomes of the memory of the old scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from streamt1_plugins.config.schedule import Scene as Scene  # authors import them from here
from streamt1_plugins.config.schedule import SceneMemory as SceneMemory
from streamt1_plugins.config.schedule import changed as changed
from streamt1_plugins.config.schedule import check_scenes as check_scenes
from streamt1_plugins.config.schedule import scenes_of as scenes_of

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import Session


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


def prompts_of(session: Session) -> list[str]:
    """The prompts of all scenes, or the only one."""
    found = session.scenes if isinstance(session, HasScenes) else ()
    return [scene.prompt for scene in found] or [session.prompt]
