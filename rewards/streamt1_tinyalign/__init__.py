"""A reward for the bundled moving-shapes world: text-video alignment by a tiny dual encoder in the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterReward


@hookimpl
def streamt1_register_rewards(register: RegisterReward) -> None:
    register("tinyalign", target="streamt1_tinyalign.reward:TinyAlign")
