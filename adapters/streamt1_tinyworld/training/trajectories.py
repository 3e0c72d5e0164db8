"""Lessons for a few-step student: denoising trajectories of the teacher, with the memory behind each chunk.

python -m streamt1_tinyworld.training.trajectories --out DIR --kind first memory late cut --shards 8

A trajectory is the teacher's Euler path from noise to a clean chunk (the probability-flow ODE), of which the points on
`GRID` are kept. Its memory is encoded true clips. Four kinds of rows:

- *first*: chunk 0, from the caption alone;
- *memory*, *late*: chunks 1.. of short clips, and chunks anywhere in long ones with appended sinks, see `rows.py`;
- *cut*: the scene changes between two chunks. The memory holds the old scene, the caption and the teacher's memory only
  the new one, so the student learns to leave the old scene when the text does.
"""

from __future__ import annotations

import argparse
import logging
import random
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamt1_tinyworld.training.data import CAPTIONS, Clips, make_clips, standardise, tokenize_variants
from streamt1_tinyworld.training.dit import (
    CHUNK,
    TOKENS,
    Denoiser,
    KeysValues,
    Layout,
    Output,
    block_forward,
    encode_text,
)
from streamt1_tinyworld.training.export import load
from streamt1_tinyworld.training.rows import CLEAN, NOISY, early_chunks, late_chunks, visibility, warp
from streamt1_tinyworld.training.sampler import Model
from streamt1_tinyworld.world import sample_split

SHIFT = 5.0
GRID = tuple(warp(torch.linspace(1, 0, 9), SHIFT).tolist())
"""Noise levels of the points that are kept, from 1 to 0; every second one is a step of the student."""
SUBSTEPS = {"first": 2, "memory": 1, "late": 1, "cut": 2}
"""Euler steps of the teacher between two points of the grid: chunks without memory need more."""
TWO = 0.5  # share of clips with two things
KINDS = tuple(SUBSTEPS)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lessons:
    """R rows of C clean and Q wanted chunks; C is 0 for first chunks."""

    paths: Tensor  # [R, Q, points of GRID, 16, 3, 8, 8] half precision
    clean: Tensor  # [R, C, 16, 3, 8, 8] half precision
    index: Tensor  # [R, C + Q] the place of each chunk in its video
    seen: Tensor  # [R, Q, C] which clean chunks a wanted one attends to
    tokens: Tensor  # [R, L]

    def save(self, path: Path) -> None:
        """Write one shard, whole or not at all."""
        part = path.with_suffix(".part")
        save_file({name: value.contiguous() for name, value in vars(self).items()}, part)
        part.rename(path)

    @classmethod
    def read(cls, path: Path) -> Lessons:
        """Read one shard."""
        return cls(**load_file(path))


@dataclass(frozen=True)
class Context:
    """What the teacher sees: clean chunks [R, C, 16, 3, 8, 8] at the places `index` [R, C + Q], as far as `seen`."""

    clean: Tensor
    index: Tensor
    seen: Tensor

    def layout(self) -> Layout:
        """Positions and mask of the wanted chunks, which attend to themselves and to the clean ones they see."""
        wanted = self.index.shape[1] - self.clean.shape[1]
        own = torch.eye(wanted, dtype=torch.bool).expand(len(self.index), -1, -1)
        return Layout(frames_at(self.index[:, -wanted:]), mask(torch.cat([self.seen, own], 2)))


def frames_at(index: Tensor) -> Tensor:
    """Latent frames [R, S * 3] of the chunks [R, S]."""
    return (index[:, :, None] * CHUNK + torch.arange(CHUNK)).flatten(1)


def mask(seen: Tensor) -> Tensor:
    """Attention bias [R, 1, q * 48, k * 48], 0 or -inf, of chunks that see chunks [R, q, k]."""
    tokens = CHUNK * TOKENS
    wide = seen.repeat_interleave(tokens, 1).repeat_interleave(tokens, 2)[:, None]
    return torch.zeros(wide.shape).masked_fill(~wide, float("-inf"))


def as_frames(chunks: Tensor) -> Tensor:
    """[R, S, 16, 3, 8, 8] -> [R, 16, S * 3, 8, 8]."""
    return chunks.float().transpose(1, 2).flatten(2, 3)


def as_chunks(frames: Tensor) -> Tensor:
    """[R, 16, S * 3, 8, 8] -> [R, S, 16, 3, 8, 8]."""
    rows, channels, count, height, width = frames.shape
    return frames.reshape(rows, channels, count // CHUNK, CHUNK, height, width).transpose(1, 2)


@torch.no_grad()
def walk(model: Model, tokens: Tensor, context: Context, substeps: int, generator: torch.Generator) -> Tensor:
    """The teacher's trajectories [R, Q, points, 16, 3, 8, 8] from fresh noise."""

    def run(x: Tensor, level: Tensor, layout: Layout) -> Output:
        with torch.autocast(x.device.type, torch.bfloat16):
            return denoiser(x, level, text, layout, cache)

    denoiser = Denoiser(model.transformer, block_forward)
    rows, clean = context.clean.shape[:2]
    wanted = context.index.shape[1] - clean
    text = encode_text(model.text_encoder, tokens)
    cache: list[KeysValues] | None = None
    if clean:
        past = context.index[:, :clean]
        before = (past[:, None] < past[:, :, None]) | torch.eye(clean, dtype=torch.bool)
        layout = Layout(frames_at(past), mask(before))
        zero = torch.zeros(rows, clean * CHUNK)
        cache = run(as_frames(context.clean), zero, layout).keys_values
    x = torch.randn(rows, 16, wanted * CHUNK, 8, 8, generator=generator)
    points, layout = [x], context.layout()
    for high, low in pairwise(GRID):
        levels = torch.linspace(high, low, substeps + 1).tolist()
        for sigma, following in pairwise(levels):
            level = torch.full((rows, wanted * CHUNK), sigma)
            x = x + (following - sigma) * run(x, level, layout).velocity
        points.append(x)
    return torch.stack([as_chunks(point) for point in points], 2).half()


def first_lessons(model: Model, count: int, seed: int) -> Lessons:
    """Rows of the kind *first*, made from captions alone."""
    rng, generator = random.Random(f"first {seed}"), torch.Generator().manual_seed(seed)
    tokens = tokenize_variants(model.tokenizer, sample_split("train", count, rng, TWO), seed)
    tokens = tokens[torch.arange(count), torch.randint(CAPTIONS, (count,), generator=generator)]
    context = Context(torch.zeros(count, 0, 16, CHUNK, 8, 8), torch.zeros(count, 1, dtype=torch.long), _none(count, 1))
    paths = walk(model, tokens, context, SUBSTEPS["first"], generator)
    return Lessons(paths, context.clean.half(), context.index, context.seen, tokens)


def _none(rows: int, wanted: int, clean: int = 0) -> Tensor:
    return torch.zeros(rows, wanted, clean, dtype=torch.bool)


def memory_lessons(model: Model, clips: Clips, count: int, generator: torch.Generator, late: bool) -> Lessons:
    """Rows of the kinds *memory* and *late*."""
    chunks = clips.latents.shape[2] // CHUNK
    clean, wanted, sinks = (late_chunks if late else early_chunks)(count, chunks, torch.device("cpu"))
    index = torch.cat([clean, wanted], 1)
    seen = visibility(index, sinks).isfinite()[:, CLEAN:, :CLEAN]
    picked = torch.randint(len(clips.latents), (count,), generator=generator)
    tokens = clips.tokens[picked, torch.randint(CAPTIONS, (count,), generator=generator)]
    context = Context(_taken(clips, picked, clean), index, seen)
    paths = walk(model, tokens, context, SUBSTEPS["memory"], generator)
    return Lessons(paths, context.clean.half(), index, seen, tokens)


def cut_lessons(model: Model, clips: Clips, count: int, generator: torch.Generator) -> Lessons:
    """Rows of the kind *cut*: chunks 0, b-2 and b-1 of one scene, then chunks 0..3 of another at the places b.."""
    cut = torch.randint(3, 38, (count, 1), generator=generator)
    following, wanted = torch.arange(CLEAN - 3).expand(count, -1), torch.arange(NOISY).expand(count, -1)
    pair = torch.rand(count, len(clips.latents), generator=generator).argsort(1)[:, :2]
    run = torch.randint(1, clips.latents.shape[2] // CHUNK - 1, (count, 1), generator=generator)
    old = _taken(clips, pair[:, 0], torch.cat([torch.zeros_like(run), run, run + 1], 1))
    new = _taken(clips, pair[:, 1], following)
    old_at = torch.cat([torch.zeros_like(cut), cut - 2, cut - 1], 1)
    index = torch.cat([old_at, cut + following, cut + wanted], 1)
    reach = (cut + wanted)[:, :, None] - index[:, None, :CLEAN]
    seen = (reach > 0) & ((reach <= 2) | (index[:, None, :CLEAN] == 0))
    tokens = clips.tokens[pair[:, 1], torch.randint(CAPTIONS, (count,), generator=generator)]
    # The teacher saw no change of scene: it gets the new scene alone, at its places in a video of its own.
    alone = Context(new, torch.cat([following, wanted], 1), seen[:, :, 3:])
    paths = walk(model, tokens, alone, SUBSTEPS["cut"], generator)
    return Lessons(paths, torch.cat([old, new], 1).half(), index, seen, tokens)


def _taken(clips: Clips, picked: Tensor, chunks: Tensor) -> Tensor:
    """Chunks [R, S] of the clips [R], as [R, S, 16, 3, 8, 8]."""
    frames = frames_at(chunks)
    return as_chunks(clips.latents[picked[:, None], :, frames].float().transpose(1, 2))


def pool(model: Model, kind: str, count: int, seed: int) -> Clips:
    """Encoded clips of the length that a kind of rows needs."""
    rng = random.Random(f"{kind} {seed}")
    clips = make_clips(
        model.vae, model.tokenizer, sample_split("train", count, rng, TWO), 40 if kind == "late" else 8, seed
    )
    config = model.vae.config
    standardise(clips, torch.tensor(config.latents_mean), torch.tensor(config.latents_std))
    return clips


def shard(model: Model, kind: str, count: int, seed: int) -> Lessons:
    """One shard of a kind; every shard has clips of its own."""
    torch.manual_seed(seed)
    if kind == "first":
        sizes = [min(128, count)] * max(1, count // 128)
        parts = [first_lessons(model, size, seed * 1000 + part) for part, size in enumerate(sizes)]
    else:
        clips = pool(model, kind, max(2, count // (8 if kind == "late" else 2)), seed)
        generator, sizes = torch.Generator().manual_seed(seed), [min(16, count)] * max(1, count // 16)
        if kind == "cut":
            parts = [cut_lessons(model, clips, size, generator) for size in sizes]
        else:
            parts = [memory_lessons(model, clips, size, generator, late=kind == "late") for size in sizes]
    return Lessons(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent.parent / "model", help="the teacher")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards; those that exist are kept")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--shards", type=int, nargs=2, default=(0, 8), metavar=("FROM", "TO"))
    parser.add_argument("--rows", type=int, default=256, help="rows of a shard; of first chunks eight times as many")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    model = load(options.model, torch.device("cpu"))
    options.out.mkdir(parents=True, exist_ok=True)
    for number in range(*options.shards):
        for kind in options.kinds:
            path = options.out / f"{kind}-{number:03d}.safetensors"
            if not path.exists():
                start = time.perf_counter()
                rows = options.rows * (8 if kind == "first" else 1)
                shard(model, kind, rows, 1 + number).save(path)
                log.info("%s: %.0f s", path.name, time.perf_counter() - start)


if __name__ == "__main__":
    main()
