"""A tiny streaming decoder of the bundled model's latents: cheap frames to judge candidates by."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

LATENTS, SCALE = 16, 4  # channels of a latent frame; video frames of one


class PreviewDecoder(nn.Module):
    """Frames of standardised latents, a latent frame at a time; the only memory is the latent frame before.

    97 thousand weights. Two convolutions on the 8 x 8 cells of this and the last latent frame, then each of the four
    video frames on its own at 16 x 16, and 4 x 4 pixels from each of those cells.
    """

    def __init__(self, width: int = 56, frame_width: int = 32) -> None:
        super().__init__()
        self.read = nn.Conv2d(2 * LATENTS, width, 3, padding=1)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.split = nn.Conv2d(width, SCALE * 4 * frame_width, 1)
        self.frame = nn.Conv2d(frame_width, frame_width, 3, padding=1)
        self.last = nn.Conv2d(frame_width, 3 * 16, 3, padding=1)

    def forward(self, latents: Tensor, before: Tensor | None = None) -> Tensor:
        """Latents [N, 16, F, h, w] and the latent frame before them [N, 16, 1, h, w] -> frames [N, 4F, 3, 8h, 8w].

        Without `before` the video starts here, and its first latent frame is one video frame: [N, 4F - 3, 3, 8h, 8w].
        """
        first = torch.zeros_like(latents[:, :, :1]) if before is None else before
        pairs = torch.cat([torch.cat([first, latents[:, :, :-1]], 2), latents], 1)
        count, _, frames, rows, columns = pairs.shape
        x = F.silu(self.read(pairs.transpose(1, 2).flatten(0, 1)))
        x = x + F.silu(self.mix(x))
        x = self.split(x).unflatten(1, (SCALE, -1)).flatten(0, 1)
        x = F.pixel_shuffle(F.silu(x), 2)
        x = x + F.silu(self.frame(x))
        x = F.pixel_shuffle(self.last(x), 4) + 0.5
        video = x.view(count, SCALE * frames, 3, 8 * rows, 8 * columns)
        return video if before is not None else video[:, SCALE - 1 :]


def load_preview(path: Path) -> PreviewDecoder:
    """The decoder with the weights of a safetensors file."""
    decoder = PreviewDecoder()
    decoder.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return decoder.eval().requires_grad_(False)
