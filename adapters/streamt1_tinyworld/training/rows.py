"""Training rows: chunks of clips, their noise levels, and their attention masks.

Two kinds. A *first-chunk row* is chunk 0 alone, which depends on the caption only. A *memory row* holds clean chunks
(chunk 0, appended sinks from the past, a run of consecutive chunks) and noisy copies of chunks of the same clip; each
noisy chunk attends to exactly what the sampler will give it: itself and the clean chunks in its memory, all at their
true absolute positions, so late positions of a long video are trained too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from streamt1_tinyworld.training.data import CAPTIONS, Clips
from streamt1_tinyworld.training.dit import CHUNK, TOKENS, Layout

CLEAN = 7  # chunk 0, up to four appended sinks, two previous chunks
NOISY = 5
MAX_APPENDED = 4


@dataclass(frozen=True)
class Rows:
    """B rows of F latent frames."""

    latents: Tensor  # [B, 16, F, 8, 8]
    masks: Tensor  # [B, F, K, 8, 8] in 0..1
    tokens: Tensor  # [B, L]
    labels: Tensor  # [B, K, 2]
    sigmas: Tensor  # [B, F]; 0 = clean context, no loss
    layout: Layout

    def join(self, other: Rows) -> Rows:
        """Both batches of memory rows as one, because a tiny model needs large batches."""
        assert self.layout.bias is not None
        assert other.layout.bias is not None
        names = ("latents", "masks", "tokens", "labels", "sigmas")
        joined = {name: torch.cat([getattr(self, name), getattr(other, name)]) for name in names}
        positions = torch.cat([self.layout.positions, other.layout.positions])
        return Rows(**joined, layout=Layout(positions, torch.cat([self.layout.bias, other.layout.bias])))


def warp(u: Tensor, shift: float) -> Tensor:
    """Noise levels from uniform ones: a shift above 1 favours high noise."""
    return shift * u / (1 + (shift - 1) * u)


def stratified(*shape: int, device: torch.device) -> Tensor:
    """Uniform numbers that cover 0..1 evenly over the whole tensor."""
    count = torch.Size(shape).numel()
    return ((torch.randperm(count, device=device) + torch.rand(count, device=device)) / count).view(shape)


def first_chunk_rows(clips: Clips, n: int) -> Rows:
    """Half of the rows have one noise level, often where the caption determines shape and direction; others one each.

    Where the first frame is clean, only the caption determines the direction of the thing.
    """
    device = clips.latents.device
    u, kind = stratified(n, device=device)[:, None], torch.rand(n, 1, device=device)
    sigmas = torch.where(torch.rand(n, 1, device=device) < 0.5, 0.72 + 0.24 * u, warp(u, 3.0)).expand(-1, CHUNK)
    given = (0.6 + 0.4 * u) * (torch.arange(CHUNK, device=device) > 0)
    apart = 0.28 + 0.7 * torch.rand(n, CHUNK, device=device)
    sigmas = torch.where(kind < 0.3, given, torch.where(kind < 0.45, apart, sigmas))
    picked = torch.randint(len(clips.latents), (n,), device=device)
    return _gather(clips, picked, torch.zeros(n, 1, dtype=torch.long, device=device), sigmas)


def memory_rows(clips: Clips, n: int, appended: bool) -> Rows:
    """Rows from clips of many chunks; with `appended` from anywhere in long ones, else from the start of short ones."""
    device, chunks = clips.latents.device, clips.latents.shape[2] // CHUNK
    clean, noisy, sinks = (late_chunks if appended else early_chunks)(n, chunks, device)
    index = torch.cat([clean, noisy], 1)
    levels = warp(stratified(n, NOISY, device=device), 5.0)
    forced = (
        torch.rand(n, 1, device=device) < 0.15
    )  # diffusion forcing: the context is noisy too, and so are its timesteps
    context = warp(torch.rand(n, CLEAN, device=device), 3.0) * forced
    sigmas = torch.cat([context, levels], 1).repeat_interleave(CHUNK, 1)
    bias = visibility(index, sinks).repeat_interleave(CHUNK * TOKENS, 1).repeat_interleave(CHUNK * TOKENS, 2)
    picked = torch.randint(len(clips.latents), (n,), device=device)
    return _gather(clips, picked, index, sigmas, bias[:, None])


def early_chunks(n: int, chunks: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Clean chunks 0..6 and five different noisy ones of 1..; no appended sinks."""
    clean = torch.arange(CLEAN, device=device).expand(n, -1)
    noisy = 1 + torch.rand(n, min(chunks - 1, CLEAN), device=device).argsort(1)[:, :NOISY]
    return clean, noisy, torch.zeros_like(clean, dtype=torch.bool)


def late_chunks(n: int, chunks: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Clean: chunk 0, 0..4 random sinks of the past, then a run; noisy: the chunks that follow two of the run."""
    count = torch.randint(MAX_APPENDED + 1, (n, 1), device=device)
    run = CLEAN - 1 - count
    start = 5 + (torch.rand(n, 1, device=device) * (chunks - run - 5)).long()  # the chunk after the run exists
    past = 1 + (torch.rand(n, CLEAN - 1, device=device) * (start - 1)).long()
    slot = torch.arange(CLEAN - 1, device=device)
    is_sink = slot < count
    clean = torch.where(is_sink, past, start + slot - count)
    follow = 1 + (torch.rand(n, NOISY, device=device) * (run - 1)).long()
    follow = torch.where(torch.rand(n, NOISY, device=device) < 0.1, 0, follow)  # only one previous chunk
    noisy = start + 1 + follow
    zero = torch.zeros(n, 1, dtype=torch.long, device=device)
    return torch.cat([zero, clean], 1), noisy, torch.cat([zero.bool(), is_sink], 1)


def visibility(index: Tensor, sinks: Tensor) -> Tensor:
    """Attention bias [B, slots, slots], 0 or -inf, from the chunks' indices and which clean slots are added sinks."""
    n, slots, device = index.shape[0], index.shape[1], index.device
    clean = torch.arange(slots, device=device) < CLEAN
    extra = torch.randint(1, 6, (n, 1, 1), device=device)
    reach = torch.where(torch.rand(n, 1, 1, device=device) < 0.7, 2, extra)  # so that other windows work too
    keeps_first = torch.rand(n, 1, 1, device=device) < 0.9
    query, key = index[:, :, None], index[:, None, :]
    marked = torch.zeros(n, slots, dtype=torch.bool, device=device)
    marked[:, :CLEAN] = sinks
    remembered = (query - key <= reach) | marked[:, None, :] | ((key == 0) & keeps_first)
    seen = (key < query) & clean & remembered | torch.eye(slots, dtype=torch.bool, device=device)
    return torch.zeros(seen.shape, dtype=torch.bfloat16, device=device).masked_fill(~seen, float("-inf"))


def _gather(clips: Clips, picked: Tensor, index: Tensor, sigmas: Tensor, bias: Tensor | None = None) -> Rows:
    frames = (index[:, :, None] * CHUNK + torch.arange(CHUNK, device=index.device)).flatten(1)
    which = picked[:, None]
    variant = torch.randint(CAPTIONS, picked.shape, device=index.device)
    return Rows(
        latents=clips.latents[which, :, frames].float().transpose(1, 2),
        masks=clips.masks[which, frames].float() / 255,
        tokens=clips.tokens[picked, variant],
        labels=clips.labels[picked],
        sigmas=sigmas,
        layout=Layout(frames, bias),
    )
