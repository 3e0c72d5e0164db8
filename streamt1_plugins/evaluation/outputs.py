"""What a reward returned, checked: one real number per candidate, whatever else a plugin may hand back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streamt1_plugins.api.reward import RewardOutput
from streamt1_plugins.errors import PluginError, shown
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    import torch
else:
    torch = deferred("torch")


def scores_of(output: object, source: str, count: int) -> list[float]:
    """One score per candidate; NaN for a candidate that the reward marks as not valid.

    Raises `PluginError`, which starts with `source`, for anything but `count` real numbers.
    """
    output = checked(output, source)
    shape = tuple(output.scores.shape)
    if shape != (count,):
        raise PluginError(f"{source} returned shape {shape}, expected ({count},).")
    valid = [True] * count if output.valid is None else _mask(output.valid, source, count)
    values = [float(value) for value in output.scores.detach().tolist()]
    return [value if ok else math.nan for value, ok in zip(values, valid, strict=True)]


def checked(output: object, source: str) -> RewardOutput:
    """The output, its scores and parts being tensors of real numbers. Raises `PluginError` otherwise."""
    if not isinstance(output, RewardOutput):
        raise PluginError(f"{source} returned {shown(output)}, expected `RewardOutput(scores)`.")
    for name, tensor in {"scores": output.scores, **output.parts}.items():
        if not isinstance(tensor, torch.Tensor):
            raise PluginError(f"{source} returned {name} of type {type(tensor).__name__}, expected a tensor.")
        if tensor.is_complex():
            raise PluginError(f"{source} returned {name} of dtype {tensor.dtype}, expected real numbers.")
    return output


def _mask(valid: object, source: str, count: int) -> list[bool]:
    if not isinstance(valid, torch.Tensor) or tuple(valid.shape) != (count,):
        raise PluginError(f"{source} returned valid={shown(valid)}, expected a bool tensor of shape ({count},).")
    return [bool(each) for each in valid.tolist()]
