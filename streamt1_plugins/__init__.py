"""Test-time scaling for autoregressive diffusers video pipelines: ``pipe = streamt1_plugins.wrap(pipe)``.

Names are imported on first use, so ``import streamt1_plugins`` loads neither torch nor diffusers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamt1_plugins.adapter import Adapter, Capabilities, Decoded, Draft, History, MemoryPlan, Outline, Session
    from streamt1_plugins.contracts import Beam, Candidate, Chunk, Node, Proposal, Run
    from streamt1_plugins.hookspecs import hookimpl
    from streamt1_plugins.image_reward import ImageReward
    from streamt1_plugins.observers.keep import keep
    from streamt1_plugins.pipeline import StreamPipeline, load, wrap
    from streamt1_plugins.recipe import Recipe
    from streamt1_plugins.reopen import resume
    from streamt1_plugins.reward import Reward, RewardInput, RewardOutput
    from streamt1_plugins.tree import Tree

__version__ = "0.1.0"

_HOMES = {
    "adapter": ("Adapter", "Capabilities", "Decoded", "Draft", "History", "MemoryPlan", "Outline", "Session"),
    "contracts": ("Beam", "Candidate", "Chunk", "Node", "Proposal", "Run"),
    "hookspecs": ("hookimpl",),
    "image_reward": ("ImageReward",),
    "observers.keep": ("keep",),
    "pipeline": ("StreamPipeline", "load", "wrap"),
    "recipe": ("Recipe",),
    "reopen": ("resume",),
    "reward": ("Reward", "RewardInput", "RewardOutput"),
    "tree": ("Tree",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Adapter",
    "Beam",
    "Candidate",
    "Capabilities",
    "Chunk",
    "Decoded",
    "Draft",
    "History",
    "ImageReward",
    "MemoryPlan",
    "Node",
    "Outline",
    "Proposal",
    "Recipe",
    "Reward",
    "RewardInput",
    "RewardOutput",
    "Run",
    "Session",
    "StreamPipeline",
    "Tree",
    "hookimpl",
    "keep",
    "load",
    "resume",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
