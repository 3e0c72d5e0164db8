"""Rewards on CLIP: match to the prompt, human preference, aesthetics, consistency of the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterReward

_CLASSES = {
    "clipscore": "ClipScore",
    "pickscore": "PickScore",
    "hpsv2": "HPSv2",
    "laion-aesthetic": "LaionAesthetic",
    "background-consistency": "BackgroundConsistency",
}


@hookimpl
def streamt1_register_rewards(register: RegisterReward) -> None:
    for name, kind in _CLASSES.items():
        register(name, target=f"streamt1_clip.rewards:{kind}")
