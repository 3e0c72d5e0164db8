"""A reward without a reward model: the video model judges how well the prompt explains its own chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterReward


@hookimpl
def streamt1_register_rewards(register: RegisterReward) -> None:
    register("self", target="streamt1_self.reward:SelfScore")
