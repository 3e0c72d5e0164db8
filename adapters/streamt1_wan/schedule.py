"""Few-step flow matching: the noise levels of a chunk, and the two formulas of a step.

Notation: sigma in ``(0, 1]`` is the noise level, timestep = 1000 sigma is the model's input, and the model
predicts the flow ``v`` of ``x_t = (1 - sigma) x_0 + sigma noise``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of one chunk, both ``[S]`` float32 on the device that samples; the noisiest step comes first."""

    timesteps: Tensor
    sigmas: Tensor

    def __len__(self) -> int:
        return len(self.timesteps)


def shifted(u: Tensor, shift: float) -> Tensor:
    """Move uniform noise levels `u` in ``[0, 1]`` towards noise: ``shift u / (1 + (shift - 1) u)``."""
    return shift * u / (1 + (shift - 1) * u)


def sigma_table(shift: float) -> Tensor:
    """The ``[1000]`` training noise levels, float32, from 1 downwards: entry i is the shifted ``1 - i / 1000``."""
    return shifted(torch.linspace(1.0, 0.0, TRAIN_TIMESTEPS + 1)[:-1], shift)


def warped_timesteps(timesteps: Sequence[int], shift: float) -> Tensor:
    """A list such as 1000, 750, 500, 250 on the shifted scale, ``[S]`` float32; not rounded to whole numbers.

    The entry d (0..1000) names entry ``1000 - d`` of the training table, and 0 means no noise at all.
    """
    labels = torch.cat([sigma_table(shift) * TRAIN_TIMESTEPS, torch.zeros(1)])
    return labels[TRAIN_TIMESTEPS - torch.tensor(timesteps)]


def nearest_sigma(timesteps: Tensor, shift: float) -> Tensor:
    """The noise level of the training table whose timestep is nearest, same shape as `timesteps`."""
    sigmas = sigma_table(shift).to(timesteps.device)
    distance = (sigmas * TRAIN_TIMESTEPS - timesteps.unsqueeze(-1)).abs()
    return sigmas[distance.argmin(dim=-1)]


def listed(timesteps: Sequence[int], shift: float, *, warp: bool = True) -> Schedule:
    """The schedule of distilled models: training timesteps, warped by the shift or taken as they are."""
    labels = warped_timesteps(timesteps, shift) if warp else torch.tensor(timesteps, dtype=torch.float32)
    return Schedule(labels, nearest_sigma(labels, shift))


def uniform(steps: int, shift: float) -> Schedule:
    """`steps` evenly spaced noise levels from 1 towards 0, shifted, off the training table's grid."""
    sigmas = shifted(torch.linspace(1.0, 0.0, steps + 1)[:-1], shift)
    return Schedule(sigmas * TRAIN_TIMESTEPS, sigmas)


def flow_to_x0(flow: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
    """The clean estimate ``x_t - sigma flow``, in float64 and cast back, because bfloat16 loses low bits.

    `sigma` is a scalar or broadcasts against `noisy`.
    """
    wide = torch.float32 if noisy.device.type == "mps" else torch.float64
    return (noisy.to(wide) - sigma.to(wide) * flow.to(wide)).to(noisy.dtype)


def renoise(x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Back to the noise level `sigma`: ``(1 - sigma) x_0 + sigma noise``, mixed in float32, in the noise's dtype."""
    return ((1 - sigma) * x0.float() + sigma * noise.float()).to(noise.dtype)
