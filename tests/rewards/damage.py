"""Good clips and the ways to spoil their last chunk: what a reward must tell apart."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from streamt1_plugins.api.reward import RewardInput
from streamt1_tinyworld import scene, world

FIRST, NEW = 9, 12
TOTAL = FIRST + 2 * NEW
NEW_FRAMES = slice(TOTAL - NEW, TOTAL)


def texture_pan(count: int = 8, size: tuple[int, int] = (64, 64), speed: float = 0.0156) -> Tensor:
    """[count, TOTAL, 3, H, W]: a camera gliding over pictures with detail on every scale, `speed` heights per frame."""
    height, width = size
    generator, step = torch.Generator().manual_seed(1), max(1, round(speed * height))
    wide = width + step * TOTAL
    picture = torch.zeros(count, 3, height, wide)
    for octave in range(3, 7):
        cells = (2**octave, 2**octave * wide // height)
        noise = torch.randn(count, 3, *cells, generator=generator)
        picture += interpolate(noise, (height, wide), mode="bilinear") / 2**octave
    picture = (0.5 + 0.35 * picture / picture.std((1, 2, 3), keepdim=True) / 1.8).clamp(0.02, 0.98)
    return torch.stack([picture[..., frame * step :][..., :width] for frame in range(TOTAL)], dim=1)


def moving_shapes(count: int = 8) -> Tensor:
    """[count, TOTAL, 3, 64, 64] clips of the embedded world."""
    return scene.render(_scene(count), 0, TOTAL)


def empty_shapes(count: int = 8) -> Tensor:
    """The same clips, their objects missing from the last chunk."""
    staged = _scene(count)
    nothing = scene.render(replace(staged, present=torch.zeros_like(staged.present)), 0, TOTAL)
    return torch.cat([scene.render(staged, 0, TOTAL)[:, :-NEW], nothing[:, -NEW:]], dim=1)


def specs(count: int = 8) -> list[world.Spec]:
    """What the clips of the embedded world show."""
    return world.sample_split("test", count, random.Random(3))


def _scene(count: int) -> scene.Scene:
    return scene.stage(specs(count), seed=5)


def new_chunk(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A damage of the last chunk's frames only."""
    return lambda video: torch.cat([video[:, :-NEW], change(video[:, -NEW:]).clamp(0, 1)], dim=1)


def _blinking(new: Tensor) -> Tensor:
    return new * torch.tensor([1.0, 0.88]).repeat(NEW // 2).view(-1, 1, 1, 1)


def _blurred(new: Tensor) -> Tensor:
    frames = pad(new.flatten(0, 1), (3, 3, 3, 3), mode="replicate")
    return avg_pool2d(frames, 7, stride=1).view_as(new)


def _noisy(new: Tensor) -> Tensor:
    return new + 0.06 * torch.randn(new.shape, generator=torch.Generator().manual_seed(2))


def _tinted(new: Tensor) -> Tensor:
    return new + torch.linspace(0.4, 1, NEW).view(-1, 1, 1, 1) * torch.tensor([0.2, 0.0, -0.2]).view(3, 1, 1)


def _shuffled(new: Tensor) -> Tensor:
    return new[:, [6, 1, 9, 3, 11, 0, 7, 4, 10, 2, 8, 5]]


DAMAGES = MappingProxyType(
    {
        "frozen": new_chunk(lambda new: new[:, :1].expand_as(new)),
        "flicker": new_chunk(_blinking),
        "blur": new_chunk(_blurred),
        "noise": new_chunk(_noisy),
        "jump": new_chunk(lambda new: new.roll((new.shape[3] // 3, new.shape[4] // 3), (3, 4))),
        "overexposed": new_chunk(lambda new: new * 1.8 + 0.1),
        "colour drift": new_chunk(_tinted),
        "shuffled": new_chunk(_shuffled),
    }
)
CAUGHT_BY = MappingProxyType(
    {
        "frozen": "dynamics",
        "flicker": "flicker",
        "blur": "sharpness",
        "noise": "sharpness",
        "jump": "seam",
        "overexposed": "exposure",
        "colour drift": "drift",
        "shuffled": "dynamics",
    }
)


def long_input(video: Tensor) -> RewardInput:
    """The long horizon's view of the last chunk."""
    prompts = ("",) * len(video)
    return RewardInput(video, prompts, 16.0, 2, 7, NEW_FRAMES, anchor=video[:, :FIRST])


def short_input(video: Tensor, lead: int = 0) -> RewardInput:
    """The short horizon's view of the last chunk, after `lead` frames of the one before."""
    prompts, new = ("",) * len(video), slice(lead, lead + NEW)
    return RewardInput(video[:, -NEW - lead :], prompts, 16.0, 2, 7, new, anchor=video[:, :FIRST])
