"""The built-in policies, registered like a third party's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.hookspecs import hookimpl

if TYPE_CHECKING:
    from streamt1_plugins.api.register import RegisterPolicy


@hookimpl
def streamt1_register_policies(register: RegisterPolicy) -> None:
    register("fixed", kind="width", target="streamt1_plugins.policies.width:FixedWidth")
    register("budget", kind="width", target="streamt1_plugins.policies.budget:Budget")
    register("funnel", kind="width", target="streamt1_plugins.policies.funnel:Funnel")
    register("propagate", kind="noise", target="streamt1_plugins.policies.noise:Propagate")
    register("hybrid", kind="scoring", target="streamt1_plugins.policies.scoring:Hybrid")
    register("none", kind="revision", target="streamt1_plugins.policies.revision:NoRevision")
    register("refine", kind="revision", target="streamt1_plugins.policies.refine:Refine")
    register("backtrack", kind="revision", target="streamt1_plugins.policies.backtrack:Backtrack")
    register("top_k", kind="selection", target="streamt1_plugins.policies.selection:TopK")
    register("smc", kind="selection", target="streamt1_plugins.policies.particles:Smc")
    register("diverse", kind="selection", target="streamt1_plugins.policies.diversity:Diverse")
    register("random", kind="selection", target="streamt1_plugins.policies.random_pick:RandomPick")
    register("reward_feedback", kind="memory", target="streamt1_plugins.policies.memory:RewardFeedback")
    register("elite", kind="memory", target="streamt1_plugins.policies.elite:Elite")
    register("fixed", kind="memory", target="streamt1_plugins.policies.memory:FixedRoute")
