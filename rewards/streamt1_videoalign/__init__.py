"""VideoReward of VideoAlign, the long-horizon reward of the Stream-T1 paper, on plain transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.registry import RegisterReward


@hookimpl
def streamt1_register_rewards(register: RegisterReward) -> None:
    register("videoalign", target="streamt1_videoalign.reward:VideoAlign")
