"""Trains the dual encoder on the moving-shapes world.

    python -m streamt1_tinyalign.training --out DIR [--vae PIPELINE_FOLDER]

The loss is contrastive in both directions: a clip against captions of other clips and its caption with one wrong word;
a caption against other clips and its clip with a fault (another motion, speed, shape or colour; frozen; an object that
vanishes or changes). Shapes are the hardest attribute, so there is a further loss on pairs of frames. Held-out
combinations and the judge are not used.

The weights in the package: 650 steps on one H100 (80 s, batches of 256, AdamW, without pairs of frames and Muon, which
were added later), then on one CPU core, `--clips 3000`, `--init WEIGHTS --steps 260 --batch 8 48 --lr 1e-3 --seed 1` (4
minutes) and `--init WEIGHTS --steps 170 --batch 16 48 --lr 7e-4 --seed 2` (4 minutes).
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from streamt1_tinyalign.clips import (
    ATTRIBUTES,
    FAULT_ODDS,
    FAULTS,
    Pool,
    alter,
    clean_clips,
    degraded,
    faulty_clips,
    is_true,
    make_pool,
)
from streamt1_tinyalign.model import TinyAlign, load
from streamt1_tinyworld.scene import render, stage
from streamt1_tinyworld.training.optim import Optimisers
from streamt1_tinyworld.world import WORDS, caption, sample_split

LENGTHS = ((9, 256), (13, 256), (21, 128), (33, 96))  # frames and clips of a batch
log = logging.getLogger(__name__)
RoundTrip = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Options:
    """Clips per step at most, pairs of frames per step for the shape loss, and the peak learning rate."""

    clips: int = 256
    stills: int = 256
    lr: float = 2e-3


@dataclass(frozen=True)
class Batch:
    """B clips, their captions, wrong captions, and faulty clips. Videos [B, T, 3, 64, 64], tokens [B, (WRONG,) L]."""

    video: Tensor
    spoilt: Tensor
    tokens: Tensor
    wrong: Tensor
    also_true: Tensor  # [B, B] caption a is true of clip b, so the pair is no negative; includes the diagonal
    spoilt_true: Tensor  # [B] the fault does not contradict the caption


def draw(pool: Pool, round_trip: RoundTrip | None, limit: int = 256) -> Batch:
    """A random batch of one length and at most `limit` clips, on the pool's device."""
    device = pool.tokens.device
    frames, count = LENGTHS[int(torch.multinomial(torch.tensor([0.35, 0.35, 0.15, 0.15]), 1))]
    count = min(count, limit)
    rows, variant = (torch.randint(n, (count,), device=device) for n in pool.tokens.shape[:2])
    start, skip = int(torch.randint(300, ())), int(torch.randint(4, ()))
    kind = torch.multinomial(torch.tensor(FAULT_ODDS, device=device), count, replacement=True)
    video = degraded(clean_clips(pool, rows, frames, start), round_trip)[:, skip:]
    spoilt = degraded(faulty_clips(pool, rows, frames, start, kind), round_trip)[:, skip:]
    said = pool.said[rows, variant]
    unharmed = is_true(said, pool.twin_shown[rows]).diagonal() & ((kind == 0) | (kind == 3))
    still_fine = (said[:, 3::4] < 0).all(1) & (kind == 1)  # frozen, and the caption names no motion
    return Batch(
        video,
        spoilt,
        pool.tokens[rows, variant],
        pool.wrong[rows, variant],
        is_true(said, pool.shown[rows]),
        unharmed | still_fine,
    )


def loss_of(model: TinyAlign, batch: Batch) -> Tensor:
    """Mean of the clip-to-caption and the caption-to-clip cross-entropy."""
    count = len(batch.video)
    clips = model.embed_video(torch.cat([batch.video, batch.spoilt])).float()
    texts = model.embed_text(torch.cat([batch.tokens, batch.wrong.flatten(0, 1)])).float()
    scale = 1 / model.temperature.exp().clamp(min=0.02)
    true, spoilt = clips[:count], clips[count:]
    captions, wrong = texts[:count], texts[count:].view(count, -1, texts.shape[1])
    own = torch.eye(count, dtype=torch.bool, device=clips.device)
    logits = (scale * captions @ true.T).masked_fill(batch.also_true & ~own, -1e4)  # [captions, clips]
    against_wrong = scale * torch.einsum("nd,nkd->nk", true, wrong)
    against_spoilt = (scale * captions @ spoilt.T).masked_fill(~own | batch.spoilt_true[:, None], -1e4)
    target = torch.arange(count, device=clips.device)
    from_clip = F.cross_entropy(torch.cat([logits.T, against_wrong], 1), target)
    from_caption = F.cross_entropy(torch.cat([logits, against_spoilt], 1), target)
    return (from_clip + from_caption) / 2


def still_loss(model: TinyAlign, pool: Pool, count: int) -> Tensor:
    """Cross-entropy of two frames and their caption against captions with a wrong shape, the hardest attribute."""
    rows, variant = (torch.randint(n, (count,), device=pool.tokens.device) for n in pool.tokens.shape[:2])
    clips = model.embed_video(degraded(clean_clips(pool, rows, 2, int(torch.randint(300, ()))), None)).float()
    tokens = torch.cat([pool.tokens[rows, variant][:, None], pool.misshapen[rows, variant]], 1)
    texts = model.embed_text(tokens.flatten(0, 1)).float().view(*tokens.shape[:2], -1)
    logits = torch.einsum("nd,nkd->nk", clips, texts) / model.temperature.exp().clamp(min=0.02)
    return F.cross_entropy(logits, torch.zeros(count, dtype=torch.long, device=clips.device))


def train(model: TinyAlign, pool: Pool, steps: int, round_trip: RoundTrip | None, options: Options) -> None:
    """Train on the pool's device, in bf16 on a GPU."""
    device = pool.tokens.device
    model.to(device).train().requires_grad_(True)
    matrices = [
        p for name, p in model.named_parameters() if p.ndim >= 2 and not name.endswith(("place", "words.weight"))
    ]
    optimisers = Optimisers(model, matrices, options.lr, decay=0.01)
    started, seen = time.perf_counter(), 0
    for step in range(steps):
        batch = draw(pool, round_trip, options.clips)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            still = still_loss(model, pool, options.stills)
            loss = loss_of(model, batch) + still
        torch.autograd.backward(loss)
        optimisers.step(step, steps, hold=0.5)
        seen += len(batch.video)
        if step % 100 == 0 or step == steps - 1:
            rate = seen / (time.perf_counter() - started)
            log.info("align step %d/%d  loss %.4f, of it shape %.4f  %.1f clips/s", step, steps, loss, still, rate)
    model.eval()


@torch.no_grad()
def accuracy(model: TinyAlign, frames: int, count: int = 256, seed: int = 7) -> dict[str, float]:
    """Share of test clips that score higher than with a wrong word, per attribute, and than faulty clips, per fault."""
    rng, device = random.Random(f"accuracy {seed}"), next(model.parameters()).device
    specs = sample_split("test", count, rng)
    video, result = render(stage(specs, seed).to(device), 0, frames), {}
    true = model.score(video, [caption(spec) for spec in specs])
    for attribute in ATTRIBUTES:
        wrong = model.score(video, [caption(alter(spec, attribute, rng)) for spec in specs])
        result[attribute] = float((true > wrong).float().mean())
    pool = on_device(make_pool(model.tokenize, "test", count, seed, two=0.0), device)
    rows = torch.arange(count, device=device)
    texts = [caption(spec) for spec in sample_split("test", count, random.Random(f"align {seed}"))]
    good = model.score(clean_clips(pool, rows, frames, 0), texts)
    for index, fault in enumerate(FAULTS):
        bad = model.score(faulty_clips(pool, rows, frames, 0, torch.full_like(rows, index)), texts)
        result[f"clip {fault}"] = float((good > bad).float().mean())
    return {name: round(value, 3) for name, value in (result | {"mean score": float(true.mean())}).items()}


def on_device(pool: Pool, device: torch.device) -> Pool:
    """The same pool on another device."""
    return Pool(**{name: value.to(device) for name, value in vars(pool).items()})


def round_trip_of(folder: Path, device: torch.device) -> RoundTrip:
    """A function that encodes and decodes clips with the VAE of a tinyworld pipeline folder."""
    from diffusers import AutoencoderKLWan

    from streamt1_tinyworld.training.vae import decode, encode, whole_clips

    vae = whole_clips(AutoencoderKLWan.from_pretrained(folder, subfolder="vae").to(device).eval().requires_grad_(False))

    @torch.no_grad()
    def round_trip(video: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return decode(vae, encode(vae, video)[0]).clamp(0, 1)

    return round_trip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--vae", type=Path, help="pipeline folder whose VAE encodes and decodes a quarter of the clips")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=650)
    parser.add_argument("--clips", type=int, default=8192, help="number of different clips")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--batch", type=int, nargs=2, default=(256, 256), help="clips and pairs of frames per step")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_float32_matmul_precision("high")
    device = torch.device(options.device)
    pool = make_pool(TinyAlign(WORDS).tokenize, "train", options.clips, options.seed)
    round_trip = round_trip_of(options.vae, device) if options.vae else None
    torch.manual_seed(options.seed)
    model = load(options.init) if options.init else TinyAlign(WORDS)
    clips, stills = options.batch
    train(model, on_device(pool, device), options.steps, round_trip, Options(clips, stills, options.lr))
    model.save(options.out)
    for frames in (9, 12, 48):
        log.info("accuracy on test clips of %d frames: %s", frames, json.dumps(accuracy(model, frames)))


if __name__ == "__main__":
    main()
