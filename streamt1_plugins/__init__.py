"""Test-time scaling for autoregressive diffusers video pipelines: ``pipe = streamt1_plugins.wrap(pipe)``.

`__all__` is the public interface, with `streamt1_plugins.errors` and `streamt1_plugins.testing`. Names are imported on
first use, so ``import streamt1_plugins`` loads neither torch nor diffusers.
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
        Footprint,
        HasDraft,
        HasFootprint,
        HasOutline,
        History,
        MemoryPlan,
        Outline,
        OutlinedSession,
        Session,
    )
    from streamt1_plugins.api.candidate import Beam, Candidate
    from streamt1_plugins.api.hookspecs import hookimpl
    from streamt1_plugins.api.image_reward import ImageReward
    from streamt1_plugins.api.register import (
        PolicyKind,
        RegisterAdapter,
        RegisterPolicy,
        RegisterReward,
        Rewards,
        Target,
    )
    from streamt1_plugins.api.reward import FrameKey, Reward, RewardInput, RewardOutput
    from streamt1_plugins.api.run import Cost, Run
    from streamt1_plugins.api.tree import Tree
    from streamt1_plugins.api.types import Chunk, Fate, Horizon, MemoryRoute, Node, Proposal, Reading
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.errors import (
        ContractError,
        InputError,
        OutputError,
        PluginError,
        RecipeError,
        StreamT1Error,
        UnknownNameError,
        UnreachableError,
        UnsupportedPipelineError,
    )
    from streamt1_plugins.pipeline import StreamPipeline, load, wrap
    from streamt1_plugins.policies.noise import fresh_seed
    from streamt1_plugins.replay import branch, regenerate
    from streamt1_plugins.resuming import resume
    from streamt1_plugins.runs.observers.record import record_to
    from streamt1_plugins.search.streaming import StreamedChunk

__version__ = "0.1.0"

_HOMES = {
    "api.adapter": "Adapter Capabilities Decoded Draft Footprint HasDraft HasFootprint HasOutline History MemoryPlan "
    "Outline OutlinedSession Session",
    "api.candidate": "Beam Candidate",
    "api.hookspecs": "hookimpl",
    "api.image_reward": "ImageReward",
    "api.register": "PolicyKind RegisterAdapter RegisterPolicy RegisterReward Rewards Target",
    "api.reward": "FrameKey Reward RewardInput RewardOutput",
    "api.run": "Cost Run",
    "api.tree": "Tree",
    "api.types": "Chunk Fate Horizon MemoryRoute Node Proposal Reading",
    "config.schema": "Recipe",
    "errors": "ContractError InputError OutputError PluginError RecipeError StreamT1Error UnknownNameError "
    "UnreachableError UnsupportedPipelineError",
    "pipeline": "StreamPipeline load wrap",
    "policies.noise": "fresh_seed",
    "replay": "branch regenerate",
    "resuming": "resume",
    "runs.observers.record": "record_to",
    "search.streaming": "StreamedChunk",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}
_RENAMED = {"keep": "record_to"}
"""Renamed in 0.2; version 0.3 drops the old names."""

__all__ = [
    "Adapter",
    "Beam",
    "Candidate",
    "Capabilities",
    "Chunk",
    "ContractError",
    "Cost",
    "Decoded",
    "Draft",
    "Fate",
    "Footprint",
    "FrameKey",
    "HasDraft",
    "HasFootprint",
    "HasOutline",
    "History",
    "Horizon",
    "ImageReward",
    "InputError",
    "MemoryPlan",
    "MemoryRoute",
    "Node",
    "Outline",
    "OutlinedSession",
    "OutputError",
    "PluginError",
    "PolicyKind",
    "Proposal",
    "Reading",
    "Recipe",
    "RecipeError",
    "RegisterAdapter",
    "RegisterPolicy",
    "RegisterReward",
    "Reward",
    "RewardInput",
    "RewardOutput",
    "Rewards",
    "Run",
    "Session",
    "StreamPipeline",
    "StreamT1Error",
    "StreamedChunk",
    "Target",
    "Tree",
    "UnknownNameError",
    "UnreachableError",
    "UnsupportedPipelineError",
    "branch",
    "fresh_seed",
    "hookimpl",
    "load",
    "record_to",
    "regenerate",
    "resume",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        import warnings

        message = f"streamt1_plugins.{name} is now streamt1_plugins.{_RENAMED[name]}. Version 0.3 drops the old name."
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return __getattr__(_RENAMED[name])
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
