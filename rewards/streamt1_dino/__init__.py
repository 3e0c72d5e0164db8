"""A reward on DINO: consistency of the subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterReward


@hookimpl
def streamt1_register_rewards(register: RegisterReward) -> None:
    register("subject-consistency", target="streamt1_dino.reward:SubjectConsistency")
