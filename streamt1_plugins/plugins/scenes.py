"""Schedules and adapters: a prompt that changes is refused, with the reason, where a session has no scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.scenes import HasScenes, check_scenes
from streamt1_plugins.errors import InputError
from streamt1_plugins.plugins.discovery import discovery

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import Session


def check_adapter(name: str) -> None:
    """Raise `InputError` where an adapter declares that its prompt cannot change."""
    entry = discovery().adapters.get(name)
    reason = entry.capabilities.refusals.get("schedule") if entry and entry.capabilities else None
    if reason is not None:
        raise _refused(name, reason)


def check_session(name: str, session: Session, schedule: Any) -> None:
    """Raise `InputError` where a session ignores its call's schedule, or is over before the last scene begins."""
    scenes = session.scenes if isinstance(session, HasScenes) else ()
    if schedule and not scenes:
        raise _refused(name, "its sessions have one prompt")
    check_scenes(scenes, session.num_chunks)


def _refused(name: str, reason: str) -> InputError:
    able = sorted(
        entry.name
        for entry in discovery().adapters.values()
        if entry.capabilities and "schedule" not in entry.capabilities.refusals and entry.name != name
    )
    return InputError(
        f"The prompt cannot change with adapter {name!r}, so leave `schedule` out: {reason}. Adapters that take a "
        f"schedule: {', '.join(able)}."
    )
