"""Training data of the dual encoder: clips with captions, captions with one wrong word, and clips with one fault.

All clips are rendered from the train split of the moving-shapes world. The model and the reward do not import that
world.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from streamt1_tinyworld.scene import Scene, coverage, paint, stage
from streamt1_tinyworld.world import (
    BACKGROUNDS,
    COLOURS,
    MAX_THINGS,
    MOTIONS,
    SHAPES,
    SPEEDS,
    Spec,
    Thing,
    caption,
    forget,
    sample_split,
)

ATTRIBUTES = ("colour", "shape", "motion", "speed", "background")
FAULTS = ("altered", "frozen", "vanishes", "morphs")
FAULT_ODDS = (0.45, 0.15, 0.2, 0.2)
VARIANTS, WRONG, MISSHAPEN = 4, 4, 2  # captions per clip; wrong captions, and those with a wrong shape, per caption
VALUES = {"colour": tuple(COLOURS), "shape": SHAPES, "motion": MOTIONS, "speed": tuple(SPEEDS)}


@dataclass(frozen=True)
class Pool:
    """N clips, their twins with one attribute changed, and captions. Codes are -1 where the caption leaves it open."""

    scene: Scene
    twin: Scene  # same hidden attributes
    tokens: Tensor  # [N, VARIANTS, L]
    wrong: Tensor  # [N, VARIANTS, WRONG, L]
    misshapen: Tensor  # [N, VARIANTS, MISSHAPEN, L] with one wrong shape
    said: Tensor  # [N, VARIANTS, 1 + 4K] codes of each caption
    shown: Tensor  # [N, 1 + 4K] codes of each clip
    twin_shown: Tensor  # [N, 1 + 4K]


def make_pool(tokenize: Callable[[list[str]], Tensor], split: str, n: int, seed: int, two: float = 0.4) -> Pool:
    """A pool of `n` clips of a split, on the CPU."""
    rng = random.Random(f"align {seed}")
    specs = sample_split(split, n, rng, two)
    twins = [alter(spec, rng.choice(("colour", "shape", "motion", "motion", "speed")), rng) for spec in specs]
    said = [forget(spec, rng) for spec in specs for _ in range(VARIANTS)]
    texts = [caption(spec, rng if index % 2 else None) for index, spec in enumerate(said)]
    wrong = [caption(alter(spec, _mentioned(spec, rng), rng), rng) for spec in said for _ in range(WRONG)]
    misshapen = [caption(alter(spec, "shape", rng), rng) for spec in said for _ in range(MISSHAPEN)]
    return Pool(
        scene=stage(specs, seed),
        twin=stage(twins, seed),
        tokens=tokenize(texts).view(n, VARIANTS, -1),
        wrong=tokenize(wrong).view(n, VARIANTS, WRONG, -1),
        misshapen=tokenize(misshapen).view(n, VARIANTS, MISSHAPEN, -1),
        said=torch.tensor([_codes(spec) for spec in said]).view(n, VARIANTS, -1),
        shown=torch.tensor([_codes(spec) for spec in specs]),
        twin_shown=torch.tensor([_codes(spec) for spec in twins]),
    )


def alter(spec: Spec, attribute: str, rng: random.Random, index: int | None = None) -> Spec:
    """The spec with one attribute changed to another value, of a random thing or of the one at `index`."""
    used = {spec.background, *(thing.colour for thing in spec.things)}
    if attribute == "background":
        return replace(spec, background=rng.choice([name for name in BACKGROUNDS if name not in used]))
    things = list(spec.things)
    able = [i for i, thing in enumerate(things) if getattr(thing, attribute) is not None]
    at = rng.choice(able) if index is None else index
    now = getattr(things[at], attribute)
    others = [value for value in VALUES[attribute] if value != now and (attribute != "colour" or value not in used)]
    things[at] = replace(things[at], **{attribute: rng.choice(others)})
    return replace(spec, things=tuple(things))


def _mentioned(spec: Spec, rng: random.Random) -> str:
    said = [name for name in VALUES if any(getattr(thing, name) for thing in spec.things)]
    return rng.choice([*said, "motion" if "motion" in said else "shape"] + (["background"] if spec.background else []))


def _codes(spec: Spec) -> list[int]:
    def code(values: Iterable[str], value: str | None) -> int:
        return -1 if value is None else list(values).index(value)

    codes = [code(BACKGROUNDS, spec.background)]
    for thing in (*spec.things, *[Thing()] * MAX_THINGS)[:MAX_THINGS]:
        codes += [code(values, getattr(thing, name)) for name, values in VALUES.items()]
    return codes


def is_true(said: Tensor, shown: Tensor) -> Tensor:
    """Whether caption a is true of clip b, as [A, B], from the codes [A, 1+4K] and [B, 1+4K]."""

    def agree(left: Tensor, right: Tensor) -> Tensor:
        return ((left[:, None] < 0) | (left[:, None] == right[None])).all(-1)

    result = agree(said[:, :1], shown[:, :1])
    for start in range(1, said.shape[1], 4):
        thing = said[:, start : start + 4]
        result &= torch.stack([agree(thing, shown[:, at : at + 4]) for at in range(1, said.shape[1], 4)]).any(0)
    return result


def clean_clips(pool: Pool, rows: Tensor, frames: int, start: int) -> Tensor:
    """Clips [n, frames, 3, 64, 64] without faults."""
    scene = pool.scene.take(rows)
    return paint(scene, coverage(scene, start, start + frames))


def faulty_clips(pool: Pool, rows: Tensor, frames: int, start: int, kind: Tensor) -> Tensor:
    """The same clips [n, frames, 3, 64, 64] with a fault each; `kind` [n] indexes FAULTS."""
    scene, twin = pool.scene.take(rows), pool.twin.take(rows)
    covered, other = coverage(scene, start, start + frames), coverage(twin, start, start + frames)
    time = torch.arange(frames, device=rows.device)
    turn = (0.25 + 0.4 * torch.rand(len(rows), 1, device=rows.device)) * frames
    late = ((time - turn) / 3 + 0.5).clamp(0, 1)[:, :, None, None, None]
    true = paint(scene, covered)
    choices = (
        paint(twin, other),
        true[:, :1].expand_as(true),
        paint(scene, covered * (1 - late)),
        true * (1 - late) + paint(twin, other) * late,
    )
    chosen = torch.stack(choices)
    return chosen[kind, torch.arange(len(rows), device=rows.device)]


def degraded(video: Tensor, round_trip: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Clips like generated ones: a quarter through the VAE, then blur, colour cast and noise of random strength."""
    n, device = len(video), video.device
    quarter = n // 4
    if round_trip is not None and quarter:
        video = torch.cat([round_trip(video[:quarter]), video[quarter:]])
    kernel = torch.tensor([1.0, 2.0, 1.0], device=device) / 4
    flat = video.flatten(0, 2)[:, None]
    padded = F.pad(flat, (1, 1, 1, 1), mode="replicate")
    blurred = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, 3)), kernel.view(1, 1, 3, 1)).view(video.shape)

    def strength(*shape: int) -> Tensor:
        return torch.rand(n, *shape, 1, 1, device=device)

    video = video + (blurred - video) * (2 * strength(1, 1) - 1).clamp(min=0)
    video = video * (0.94 + 0.12 * strength(1, 3)) + 0.08 * (strength(1, 3) - 0.5)
    return (video + 0.05 * strength(1, 1) ** 2 * torch.randn_like(video)).clamp(0, 1)
