"""Rewards without weights: each detects a fault with a few tensor operations, from flicker to frozen motion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterReward

_CLASSES = ("Basic", "Flicker", "Seam", "Drift", "Exposure", "Sharpness", "Dynamics")


@hookimpl
def streamt1_register_rewards(register: RegisterReward) -> None:
    for name in _CLASSES:
        register(name.lower(), target=f"streamt1_basic.rewards:{name}")
    register("flow", target="streamt1_basic.flow:Flow", extra="streamt1-plugins[flow]")
