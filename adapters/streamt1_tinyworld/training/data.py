"""Pools of encoded clips: rendered and encoded once, on the training device, with their captions as tokens."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from streamt1_tinyworld.scene import coverage, paint, stage
from streamt1_tinyworld.training.dit import CHUNK, TEXT_LENGTH
from streamt1_tinyworld.training.vae import encode
from streamt1_tinyworld.world import MAX_THINGS, MOTIONS, SHAPES, Spec, caption, forget

CAPTIONS = 4  # per clip
FRAMES_AT_ONCE = 4096  # rendered and encoded in one batch
ABSENT = -100  # label of a thing that is not there


@dataclass(frozen=True)
class Clips:
    """N encoded clips of F latent frames."""

    specs: list[Spec]
    latents: Tensor  # [N, 16, F, 8, 8] half precision; standardised after `standardise`
    masks: Tensor  # [N, F, K, 8, 8] share of each latent cell that each thing covers, 0..255
    tokens: Tensor  # [N, CAPTIONS, TEXT_LENGTH]
    labels: Tensor  # [N, K, 2] index of shape and motion, ABSENT where there is no thing


def frames_of(chunks: int) -> int:
    """Video frames of a number of chunks: 9 for the first, 12 for each later one."""
    return 4 * CHUNK * chunks - 3


@torch.no_grad()
def make_clips(
    vae: AutoencoderKLWan, tokenizer: PreTrainedTokenizerFast, specs: list[Spec], chunks: int, seed: int
) -> Clips:
    """Render and encode one clip per spec, on the VAE's device."""
    scene, frames = stage(specs, seed).to(vae.device), frames_of(chunks)
    latents, masks = [], []
    batch = 2 ** int(math.log2(max(1, FRAMES_AT_ONCE // frames)))  # few distinct shapes, because cuDNN tunes each one
    for rows in torch.split(torch.arange(len(specs), device=vae.device), batch):
        clips = scene.take(rows)
        covered = coverage(clips, 0, frames)
        with torch.autocast(vae.device.type, torch.bfloat16):
            latents.append(encode(vae, paint(clips, covered))[0].half())
        masks.append(_cells(covered))
    labels = torch.tensor([[_label(spec, index) for index in range(MAX_THINGS)] for spec in specs], device=vae.device)
    tokens = tokenize_variants(tokenizer, specs, seed).to(vae.device)
    return Clips(specs, torch.cat(latents), torch.cat(masks), tokens, labels)


def _cells(covered: Tensor) -> Tensor:
    """[N, T, K, 64, 64] coverage -> [N, F, K, 8, 8] in 0..255: the mean over the pixels and frames of a latent cell."""
    cells = F.avg_pool2d(covered.flatten(0, 2), 8).view(*covered.shape[:3], 8, 8)
    later = cells[:, 1:].reshape(len(cells), -1, 4, *cells.shape[2:]).mean(2)
    return (255 * torch.cat([cells[:, :1], later], 1)).byte()


def _label(spec: Spec, index: int) -> tuple[int, int]:
    if index >= len(spec.things):
        return ABSENT, ABSENT
    thing = spec.things[index]
    return SHAPES.index(str(thing.shape)), MOTIONS.index(str(thing.motion))


def tokenize_variants(tokenizer: PreTrainedTokenizerFast, specs: Sequence[Spec], seed: int) -> Tensor:
    """[N, CAPTIONS, TEXT_LENGTH] tokens of captions per spec: half canonical, half paraphrased, some words left out."""
    rng = random.Random(f"captions {seed}")
    texts = [caption(forget(spec, rng), rng if index % 2 else None) for spec in specs for index in range(CAPTIONS)]
    return tokenize(tokenizer, texts).view(len(specs), CAPTIONS, TEXT_LENGTH)


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """[N, TEXT_LENGTH] token ids, padded with 0."""
    encoded = tokenizer(texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt")
    tokens: Tensor = encoded.input_ids
    return tokens


def statistics(clips: Clips) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [16] of the raw latents."""
    sample = clips.latents[:4096].float()
    std = sample.std((0, 2, 3, 4))
    return sample.mean((0, 2, 3, 4)), std.clamp(min=float(std.max()) / 10)


def standardise(clips: Clips, mean: Tensor, std: Tensor) -> None:
    """Shift and scale the latents in place, a slice at a time: the long pool is large."""
    for part in torch.split(clips.latents, 1024):
        part.copy_((part.float() - mean.view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1))
