"""A tiny dual encoder for the moving-shapes world, which scores the match of a clip and a prompt.

It was trained on clips of that world alone (see `training.py`), and ignores words outside its vocabulary.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WEIGHTS, CONFIG = "model.safetensors", "config.json"
MAX_WORDS = 32
REACH = 4
"""How many frames before and after a frame its vector depends on: what the convolutions over time see together."""


class ChannelNorm(nn.Module):
    """Scales each pixel's channels to RMS 1. Without statistics over time, the length of a clip has no influence."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return F.normalize(x, dim=1) * self.gain * math.sqrt(x.shape[1])


class Stage(nn.Module):
    """A convolution over space, then a residual one over time; both are 2-D, which is fast on every device."""

    def __init__(self, into: int, out: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        self.space = nn.Conv2d(into, out, 3, stride, 1)
        self.time = nn.Conv2d(out, out, (3, 1), padding=(dilation, 0), dilation=(dilation, 1))
        self.norms = nn.ModuleList([ChannelNorm(out), ChannelNorm(out)])

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """[N * frames, into, H, W] -> [N * frames, out, H/stride, W/stride]."""
        x = F.silu(self.norms[0](self.space(x)))
        rows = x.view(-1, frames, *x.shape[1:])  # [N, T, C, H, W]
        moved = self.norms[1](self.time(rows.transpose(1, 2).flatten(3)))  # [N, C, T, H * W]
        return x + F.silu(moved).transpose(1, 2).reshape(x.shape)


class VideoEncoder(nn.Module):
    """Frames -> one vector: local motion features, read by a few queries per frame, mean and spread over time."""

    def __init__(self, width: int, queries: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width // 4, 5, 2, 2)
        self.stages = nn.ModuleList(
            [Stage(width // 4, width // 2, 2), Stage(width // 2, width, 2), Stage(width, width, 1, dilation=2)]
        )
        self.place = nn.Parameter(0.02 * torch.randn(64, width))
        self.attention = nn.Linear(width, queries)
        self.value = nn.Linear(width, width)
        self.head = nn.Sequential(nn.Linear(2 * queries * width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, video: Tensor) -> Tensor:
        """[N, T, 3, 64, 64] in 0..1 -> [N, width]."""
        return self.pooled(self.frames(video))

    def frames(self, video: Tensor) -> Tensor:
        """[N, T, 3, 64, 64] in 0..1 -> a vector of each frame with its neighbours, [N, T, queries * width].

        The neighbours are `REACH` frames before and after it; beyond the clip they are zeros.
        """
        x = F.silu(self.stem(video.flatten(0, 1) * 2 - 1))
        for stage in self.stages:
            x = stage(x, video.shape[1])
        cells = x.flatten(2).mT.reshape(*video.shape[:2], 64, -1)  # [N, T, 64, width]
        share = self.attention(cells + self.place).softmax(2)
        return torch.einsum("ntpq,ntpc->ntqc", share, self.value(cells)).flatten(2)

    def pooled(self, seen: Tensor) -> Tensor:
        """The vectors of frames, [N, T, queries * width] -> [N, width]."""
        output: Tensor = self.head(torch.cat([seen.mean(1), seen.std(1, correction=0)], -1))
        return output


class TextEncoder(nn.Module):
    """Word ids -> one vector: a small transformer."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words + 1, width, padding_idx=0)
        self.place = nn.Parameter(0.02 * torch.randn(MAX_WORDS, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[N, L] ids, 0 = no word -> [N, width]."""
        empty = tokens == 0
        empty[:, 0] = False  # attention needs at least one token, also in a prompt without a known word
        hidden = self.layers(self.words(tokens) + self.place[: tokens.shape[1]], src_key_padding_mask=empty)
        output: Tensor = self.head(hidden.masked_fill(empty[..., None], 0).sum(1) / (~empty).sum(1, keepdim=True))
        return output


class TinyAlign(nn.Module):
    """Both encoders, the vocabulary, and the cosine between their vectors."""

    def __init__(self, vocabulary: Sequence[str], width: int = 96) -> None:
        super().__init__()
        self.vocabulary, self.width = tuple(vocabulary), width
        self.video, self.text = VideoEncoder(width), TextEncoder(len(vocabulary), width)
        self.temperature = nn.Parameter(torch.tensor(0.07).log())
        self._ids = {word: index + 1 for index, word in enumerate(self.vocabulary)}

    def tokenize(self, prompts: Sequence[str]) -> Tensor:
        """Ids [N, MAX_WORDS] of the known words of each prompt, in order; other words are ignored."""
        rows = [[self._ids[word] for word in re.findall(r"[^\W\d_]+", p.lower()) if word in self._ids] for p in prompts]
        return torch.tensor([(row + [0] * MAX_WORDS)[:MAX_WORDS] for row in rows])

    def embed_video(self, video: Tensor) -> Tensor:
        """[N, T, 3, 64, 64] in 0..1, T from 5 to 120 -> unit vectors [N, width]."""
        return F.normalize(self.video(video), dim=-1)

    def embed_text(self, tokens: Tensor) -> Tensor:
        """[N, L] from `tokenize` -> unit vectors [N, width]."""
        return F.normalize(self.text(tokens), dim=-1)

    @torch.no_grad()
    def score(self, video: Tensor, prompts: Sequence[str]) -> Tensor:
        """Cosines [N] in -1..1 of clips [N, T, 3, 64, 64] in 0..1 and a prompt each; higher is a better match."""
        weight = self.temperature
        clips = self.embed_video(video.to(weight.device, weight.dtype))
        return (clips * self.embed_text(self.tokenize(prompts).to(weight.device))).sum(-1).float()

    def save(self, folder: Path) -> None:
        """Write half-precision weights and the vocabulary."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: value.half().contiguous().cpu() for name, value in self.state_dict().items()}, folder / WEIGHTS
        )
        config = {"width": self.width, "vocabulary": list(self.vocabulary)}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def load(folder: str | Path, device: torch.device | str = "cpu") -> TinyAlign:
    """Read a model that `TinyAlign.save` wrote, in fp32 and ready to score."""
    config = json.loads((Path(folder) / CONFIG).read_text())
    model = TinyAlign(config["vocabulary"], config["width"])
    model.load_state_dict(load_file(Path(folder) / WEIGHTS))
    return model.float().eval().requires_grad_(False).to(device)
