"""Trains the preview decoder to give what the shipped VAE gives.

python -m streamt1_tinyworld.training.preview --out DIR --clips 1600 --steps 3000
"""

from __future__ import annotations

import argparse
import logging
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamt1_tinyworld.preview import PreviewDecoder
from streamt1_tinyworld.scene import render, stage
from streamt1_tinyworld.training.export import load
from streamt1_tinyworld.training.optim import Optimisers
from streamt1_tinyworld.training.sampler import Model
from streamt1_tinyworld.training.vae import encode
from streamt1_tinyworld.world import sample_split

FRAMES = 33
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pairs:
    """Standardised latents [N, 16, 9, 8, 8] in half precision and the VAE's frames [N, 33, 3, 64, 64] of them, 0..255."""

    latents: Tensor
    frames: Tensor


@torch.no_grad()
def make_pairs(model: Model, count: int, seed: int) -> Pairs:
    """Encoded clips of the training split; half of the latents get up to 0.2 of noise, like those of a few-step model."""
    torch.manual_seed(seed)
    scene = stage(sample_split("train", count, random.Random(f"preview {seed}"), 0.5), seed)
    config = model.vae.config
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in (config.latents_mean, config.latents_std))
    latents, frames = [], []
    for rows in torch.split(torch.arange(count), 8):
        with torch.autocast("cpu", torch.bfloat16):
            raw = encode(model.vae, render(scene.take(rows), 0, FRAMES))[0]
        clean = (raw.float() - mean) / std
        noise = 0.2 * torch.rand(len(rows), 1, 1, 1, 1) * (torch.rand(len(rows), 1, 1, 1, 1) < 0.5)
        latents.append((clean + noise * torch.randn_like(clean)).half())
        frames.append((model.decode(latents[-1].float()) * 255).round().byte())
    return Pairs(torch.cat(latents), torch.cat(frames))


def loss_of(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 and a little L2; pixels that differ from the clip's mean (things) count four times, colour differences twice."""
    thing = ((wanted - wanted.mean((1, 3, 4), keepdim=True)).abs().amax(2, keepdim=True) > 0.2).float()
    error = made - wanted
    chroma = error - error.mean(2, keepdim=True)
    return ((1 + 3 * thing) * (error.abs() + error.pow(2) + 2 * chroma.abs())).mean()


def train(pairs: Pairs, steps: int, batch: int, seed: int) -> PreviewDecoder:
    """Train from scratch."""
    torch.manual_seed(seed)
    decoder = PreviewDecoder()
    matrices = [weight for weight in decoder.parameters() if weight.ndim > 1]
    optimisers, began = Optimisers(decoder, matrices, 3e-3), time.perf_counter()
    for step in range(steps):
        picked = torch.randint(len(pairs.latents), (batch,))
        latents, wanted = pairs.latents[picked].float(), pairs.frames[picked].float() / 255
        with torch.autocast("cpu", torch.bfloat16):
            made = decoder(latents)
        loss = loss_of(made.float(), wanted)
        torch.autograd.backward(loss)
        optimisers.step(step, steps)
        if (step + 1) % 100 == 0:
            error = F.mse_loss(made.float().clamp(0, 1), wanted)
            log.info(
                "step %d  loss %.4f  psnr %.2f  %.0f s",
                step + 1,
                float(loss.detach()),
                -10 * float(error.log10()),
                time.perf_counter() - began,
            )
    return decoder.eval()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent.parent / "model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pairs and the weights")
    parser.add_argument("--clips", type=int, default=1600)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "pairs.safetensors"
    if not file.exists():
        made = make_pairs(load(options.model, torch.device("cpu")), options.clips, options.seed)
        save_file({name: value.contiguous() for name, value in vars(made).items()}, file)
    pairs = Pairs(**load_file(file))
    log.info("%d clips", len(pairs.latents))
    decoder = train(pairs, options.steps, options.batch, options.seed)
    weights = {name: value.half().contiguous() for name, value in decoder.state_dict().items()}
    save_file(weights, options.out / "preview.safetensors")
    log.info("weights: %d bytes", (options.out / "preview.safetensors").stat().st_size)


if __name__ == "__main__":
    main()
