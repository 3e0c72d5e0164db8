"""The scene of a chunk."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from streamt1_plugins.api.scenes import HasScenes, Scene, scene_at, scenes_of

RAIN = {"chunk": 3, "prompt": "it rains", "memory": "flush"}


def test_the_scene_of_a_chunk() -> None:
    session: Any = SimpleNamespace(scenes=scenes_of([RAIN], "sun"), prompt="sun")
    assert [scene_at(session, chunk).prompt for chunk in (0, 2, 3, 9)] == ["sun", "sun", "it rains", "it rains"]
    assert isinstance(session, HasScenes)
    plain: Any = SimpleNamespace(prompt="sun")
    assert scene_at(plain, 5) == Scene(0, "sun")
    unscheduled: Any = SimpleNamespace(scenes=(), prompt="sun")
    assert scene_at(unscheduled, 5) == Scene(0, "sun")
