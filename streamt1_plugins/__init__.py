"""Test-time scaling for autoregressive diffusers video pipelines: ``pipe = streamt1_plugins.wrap(pipe)``.

Names are imported on first use, so ``import streamt1_plugins`` loads neither torch nor diffusers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamt1_plugins.api.adapter import (
        Adapter,
        Capabilities,
        Decoded,
        Draft,
        History,
        MemoryPlan,
        Outline,
        Session,
    )
    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.hookspecs import hookimpl
    from streamt1_plugins.api.image_reward import ImageReward
    from streamt1_plugins.api.reward import Reward, RewardInput, RewardOutput
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Chunk, Node, Proposal
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.pipeline import StreamPipeline, load, wrap
    from streamt1_plugins.resuming import resume
    from streamt1_plugins.runs.observers.record import record_to

__version__ = "0.1.0"

_HOMES = {
    "api.adapter": ("Adapter", "Capabilities", "Decoded", "Draft", "History", "MemoryPlan", "Outline", "Session"),
    "api.candidate": ("Beam", "Candidate"),
    "api.hookspecs": ("hookimpl",),
    "api.image_reward": ("ImageReward",),
    "api.reward": ("Reward", "RewardInput", "RewardOutput"),
    "api.run": ("Run",),
    "api.tree": ("Tree",),
    "api.types": ("Chunk", "Node", "Proposal"),
    "config.schema": ("Recipe",),
    "pipeline": ("StreamPipeline", "load", "wrap"),
    "resuming": ("resume",),
    "runs.observers.record": ("record_to",),
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
    "load",
    "record_to",
    "resume",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
