"""HPSv3, the short-horizon reward of the Stream-T1 paper, on plain transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterReward


@hookimpl
def streamt1_register_rewards(register: RegisterReward) -> None:
    register("hpsv3", target="streamt1_hpsv3.reward:HPSv3")
