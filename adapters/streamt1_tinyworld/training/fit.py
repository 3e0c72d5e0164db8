"""Trains the transformer and the text encoder: flow matching on first-chunk and memory rows."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamt1_tinyworld.training.data import ABSENT, Clips
from streamt1_tinyworld.training.dit import (
    CHUNK,
    TEXT_LENGTH,
    BlockForward,
    Denoiser,
    Output,
    Text,
    block_forward,
    encode_text,
    make_text_encoder,
    make_transformer,
)
from streamt1_tinyworld.training.optim import Optimisers, average
from streamt1_tinyworld.training.rows import Rows, first_chunk_rows, memory_rows
from streamt1_tinyworld.world import MOTIONS, SHAPES

END_TOKEN = 1
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitOptions:
    """Options of the training. Rows are per step."""

    steps: int = 2200
    first_rows: int = 768
    memory_rows: int = 192
    lr: float = 2e-3
    ema: float = 0.998
    width: int = 128
    compiled: bool = False
    checkpoints: int = 4  # evenly spaced, the end included


class Network(nn.Module):
    """The modules that are trained together; the word head is not exported."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.transformer = make_transformer(width)
        self.text_encoder = make_text_encoder(words)
        self.word_head = nn.Linear(width, len(SHAPES) + len(MOTIONS))

    def matrices(self) -> list[nn.Parameter]:
        """The weights that Muon steps."""
        return [parameter for parameter in self.transformer.blocks.parameters() if parameter.ndim == 2]


@dataclass(frozen=True)
class Pools:
    """The encoded clips: first chunks only, short clips, long clips."""

    first: Clips
    short: Clips
    long: Clips


def fit(pools: Pools, words: int, options: FitOptions, checkpoint: Callable[[int, Network], None]) -> Network:
    """Train from scratch on the pools' device; `checkpoint(step, averaged network)` is called a few times."""
    device = pools.first.latents.device
    network = Network(words, options.width).to(device)
    slow = copy.deepcopy(network).eval().requires_grad_(False)
    block = torch.compile(block_forward) if options.compiled else block_forward
    optimisers = Optimisers(network, network.matrices(), options.lr, decay=0.02)
    every, started = max(1, options.steps // options.checkpoints), time.perf_counter()
    for step in range(options.steps):
        losses = [_learn(network, block, rows) for rows in _draw(pools, options)]
        optimisers.step(step, options.steps)
        average(slow, network, step, options.ema)
        if step % 100 == 0 or step == options.steps - 1:
            rate = (step + 1) * (options.first_rows + options.memory_rows) / (time.perf_counter() - started)
            parts = "  ".join(f"{loss:.4f}" for pair in losses for loss in pair.tolist())
            log.info(
                "dit step %d/%d  loss, words (first chunk; memory): %s  %.0f samples/s",
                step,
                options.steps,
                parts,
                rate,
            )
        if (step + 1) % every == 0:
            checkpoint(step + 1, slow)
    return slow


def _draw(pools: Pools, options: FitOptions) -> list[Rows]:
    half = options.memory_rows // 2
    first = first_chunk_rows(pools.first, options.first_rows)
    memory = memory_rows(pools.short, half, appended=False).join(memory_rows(pools.long, half, appended=True))
    return [first, memory]


def _learn(network: Network, block: BlockForward, rows: Rows) -> Tensor:
    """Add the gradient of the rows; returns [flow loss, word loss]."""
    device = rows.latents.device
    noise, noisy = _add_noise(rows)
    with torch.autocast(device.type, torch.bfloat16):
        text = _read_captions(network, rows.tokens)
        output = Denoiser(network.transformer, block)(noisy, rows.sigmas, text, rows.layout)
    flow = _flow_loss(output.velocity - (noise - rows.latents), rows)
    words = _word_loss(network.word_head, output, rows)
    torch.autograd.backward(flow + 0.03 * words)
    return torch.stack([flow.detach(), words.detach()])


def _add_noise(rows: Rows) -> tuple[Tensor, Tensor]:
    """Noise, and noisy latents. Half of the clean chunks get up to 0.15 of noise, like imperfect samples."""
    sigma = rows.sigmas[:, None, :, None, None]
    chunks = torch.rand(2, len(sigma), rows.sigmas.shape[1] // CHUNK, device=sigma.device)
    spoiled = (0.15 * chunks[0] * (chunks[1] < 0.5)).repeat_interleave(CHUNK, 1) * (rows.sigmas == 0)
    noise = torch.randn_like(rows.latents)
    noisy = (1 - sigma) * rows.latents + sigma * noise
    return noise, noisy + spoiled[:, None, :, None, None] * torch.randn_like(noisy)


def _read_captions(network: Network, tokens: Tensor) -> Text:
    """Encode; a tenth of the captions are dropped, and each is padded to a random length."""
    dropped = torch.rand(len(tokens), 1, device=tokens.device) < 0.1
    empty = F.one_hot(torch.zeros((), dtype=torch.long, device=tokens.device), tokens.shape[1]) * END_TOKEN
    lengths = torch.tensor([28, TEXT_LENGTH, 64, 128, 226, 512], device=tokens.device)
    length = lengths[torch.randint(len(lengths), (len(tokens),), device=tokens.device)]
    return encode_text(network.text_encoder, torch.where(dropped, empty, tokens), length)


def _flow_loss(error: Tensor, rows: Rows) -> Tensor:
    """Mean square over the noisy frames, up to 4x on things, less where the noise hides them."""
    covered = (2 * rows.masks.sum(2)).clamp(max=1)
    visible = ((0.98 - rows.sigmas) / 0.35).clamp(0, 1)[:, :, None, None]
    weight = (1 + 3 * covered * visible) * (rows.sigmas > 0)[:, :, None, None]
    return (error.pow(2).mean(1) * weight).sum() / weight.sum()


def _word_loss(head: nn.Linear, output: Output, rows: Rows) -> Tensor:
    """Cross-entropy of naming each thing's shape and motion from its noisy tokens, which makes them use the words."""
    tokens = F.avg_pool2d(rows.masks.flatten(1, 2), 2)
    share = tokens.flatten(2).view(*rows.masks.shape[:3], -1) * (rows.sigmas > 0)[:, :, None, None] + 1e-6
    pooled = torch.einsum("bfkp,bfpd->bkd", share, output.tap.float()) / share.sum((1, 3))[..., None]
    logits = head(F.layer_norm(pooled, pooled.shape[-1:])).flatten(0, 1)
    labels = rows.labels.flatten(0, 1)
    losses = [
        F.cross_entropy(part, labels[:, index], ignore_index=ABSENT)
        for index, part in enumerate(logits.split([len(SHAPES), len(MOTIONS)], 1))
    ]
    return torch.stack(losses).sum()
