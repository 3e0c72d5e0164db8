"""Renders clips of the moving-shapes world in torch: batched, on any device, for any range of frames."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from streamt1_plugins.process.imports import deferred
from streamt1_tinyworld.world import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    MAX_THINGS,
    MOTIONS,
    SHAPES,
    SIZE,
    SPEEDS,
    Spec,
    Thing,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = deferred("torch")

# Corners, tip and notch radius, angle of the first tip. The outline is n mirrored sectors, each bounded by the line
# from a tip to the notch half a sector further; a circle is a polygon with many corners.
OUTLINES = (
    (64, 1.0, math.cos(math.pi / 64), 0.0),
    (4, math.sqrt(2), 1.0, math.pi / 4),
    (3, 1.0, 0.5, -math.pi / 2),
    (5, 1.0, 0.45, -math.pi / 2),
)


@dataclass(frozen=True)
class Scene:
    """N clips with K = 2 slots for things, with all that their frames depend on. Colours 0..1, lengths in pixels."""

    background: Tensor  # [N, 3]
    shading: Tensor  # [N, 2] colour difference across the frame, horizontal and vertical
    colour: Tensor  # [N, K, 3]
    radius: Tensor  # [N, K] of the circle with the same area
    shape: Tensor  # [N, K] index into SHAPES
    position: Tensor  # [N, K, 2] centre at frame 0, (x, y)
    velocity: Tensor  # [N, K, 2] pixels per frame
    bouncing: Tensor  # [N, K] bool
    present: Tensor  # [N, K] bool

    def to(self, device: torch.device | str) -> Scene:
        """The same scene on another device."""
        return Scene(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    def take(self, rows: Tensor) -> Scene:
        """The clips with these indices."""
        return Scene(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def stage(specs: Sequence[Spec], seed: int) -> Scene:
    """A scene of each spec, with open attributes drawn on the CPU, so that a seed gives the same on every device."""
    rng, generator = random.Random(f"stage {seed}"), torch.Generator().manual_seed(seed)
    things = [[*(_complete(thing, rng) for thing in spec.things), *[None] * MAX_THINGS][:MAX_THINGS] for spec in specs]
    names = [spec.background or rng.choice(list(BACKGROUNDS)) for spec in specs]
    count = len(specs)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    def table(value: Callable[[Thing], object]) -> Tensor:
        return torch.tensor([[value(thing or _PLACEHOLDER) for thing in row] for row in things])

    present = torch.tensor([[thing is not None for thing in row] for row in things]).view(count, MAX_THINGS)
    bounds = table(lambda thing: SPEEDS[str(thing.speed)])
    speed = bounds[..., 0] + (bounds[..., 1] - bounds[..., 0]) * uniform(0, 1, MAX_THINGS)
    bouncing = table(lambda thing: thing.motion == "bouncing")
    # a bounce that is nearly horizontal or vertical could not be distinguished from "moving"
    turn = (uniform(0.25, 0.75, MAX_THINGS) + uniform(0, 4, MAX_THINGS).floor()) * math.pi / 2
    heading = torch.stack([turn.cos(), turn.sin()], -1)
    straight = table(lambda thing: DIRECTIONS.get(str(thing.motion), (0, 0))).float()
    alone = present.sum(1, keepdim=True) == 1
    tint = torch.randn(count, 1 + MAX_THINGS, 3, generator=generator)
    return Scene(
        background=(torch.tensor([BACKGROUNDS[name] for name in names]) + 5 * tint[:, 0]) / 255,
        shading=uniform(-14, 14, 2) / 255,
        colour=(table(lambda thing: COLOURS[str(thing.colour)]) + 7 * tint[:, 1:]) / 255,
        radius=torch.where(alone, uniform(7.0, 11.0, MAX_THINGS), uniform(6.5, 9.5, MAX_THINGS)),
        shape=table(lambda thing: SHAPES.index(str(thing.shape))),
        position=uniform(0, SIZE, MAX_THINGS, 2),
        velocity=speed[..., None] * torch.where(bouncing[..., None], heading, straight),
        bouncing=bouncing,
        present=present,
    )


_PLACEHOLDER = Thing("red", "circle", "right", "slowly")


def _complete(thing: Thing, rng: random.Random) -> Thing:
    return Thing(
        thing.colour or rng.choice(list(COLOURS)),
        thing.shape or rng.choice(SHAPES),
        thing.motion or rng.choice(MOTIONS),
        thing.speed or rng.choice(list(SPEEDS)),
    )


def outline_scale(shape: Tensor, radius: Tensor) -> Tensor:
    """Pixels per unit of the outline, so that every shape covers the area of a circle of `radius`."""
    corners, tip, notch, _ = torch.tensor(OUTLINES, device=shape.device)[shape].unbind(-1)
    return radius * (math.pi / (corners * tip * notch * torch.sin(math.pi / corners))).sqrt()


def cover(shape: Tensor, radius: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Share 0..1 of each pixel that a shape covers, `dx`, `dy` pixels off its centre. All arguments broadcast."""
    corners, tip, notch, turn = torch.tensor(OUTLINES, device=shape.device)[shape].unbind(-1)
    half, scale = math.pi / corners, outline_scale(shape, radius)
    folded = ((torch.atan2(dy, dx) - turn + half).remainder(2 * half) - half).abs()
    edge_x, edge_y = notch * half.cos() - tip, notch * half.sin()
    length = torch.hypot(edge_x, edge_y)
    distance = (
        torch.hypot(dx, dy) * (folded.cos() * edge_y - folded.sin() * edge_x) / length - scale * tip * edge_y / length
    )
    return (0.5 - distance).clamp(0, 1)


def coverage(scene: Scene, start: int, stop: int) -> Tensor:
    """[N, T, K, 64, 64] share of each pixel that each thing covers in frames start..stop-1."""
    device = scene.radius.device
    time = torch.arange(start, stop, device=device)[:, None, None]
    centre = scene.position[:, None] + scene.velocity[:, None] * time  # [N, T, K, 2]
    low = outline_scale(scene.shape, scene.radius)[:, None, :, None] + 1
    span = SIZE - 1 - 2 * low
    phase = (centre - low).remainder(2 * span)
    reflected = low + torch.minimum(phase, 2 * span - phase)
    bouncing = scene.bouncing[:, None, :, None]
    centre = torch.where(bouncing, reflected, centre)[..., None, None]  # [N, T, K, 2, 1, 1]
    grid = torch.arange(SIZE, device=device, dtype=torch.float32)
    dx, dy = grid[None, :] - centre[..., 0, :, :], grid[:, None] - centre[..., 1, :, :]
    inside = bouncing[..., None]
    dx, dy = torch.where(inside, dx, _wrap(dx)), torch.where(inside, dy, _wrap(dy))
    covered = cover(scene.shape[:, None, :, None, None], scene.radius[:, None, :, None, None], dx, dy)
    return covered * scene.present[:, None, :, None, None]


def _wrap(offset: Tensor) -> Tensor:
    """The same offset the short way round the frame."""
    return (offset + SIZE / 2).remainder(SIZE) - SIZE / 2


def paint(scene: Scene, covered: Tensor) -> Tensor:
    """[N, T, 3, 64, 64] frames in 0..1 from `coverage`; a later thing lies on top of an earlier one."""
    ramp = torch.linspace(-0.5, 0.5, SIZE, device=covered.device)
    shade = scene.shading[:, 0, None, None] * ramp + scene.shading[:, 1, None, None] * ramp[:, None]
    frames = (scene.background[..., None, None] + shade[:, None])[:, None].expand(-1, covered.shape[1], -1, -1, -1)
    for index in range(MAX_THINGS):
        alpha = covered[:, :, index, None]
        frames = frames * (1 - alpha) + alpha * scene.colour[:, None, index, :, None, None]
    return frames.clamp(0, 1)


def render(scene: Scene, start: int, stop: int) -> Tensor:
    """[N, T, 3, 64, 64] frames start..stop-1 in 0..1, on the scene's device."""
    return paint(scene, coverage(scene, start, stop))
