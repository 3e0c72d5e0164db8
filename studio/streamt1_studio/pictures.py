"""Film strips of candidates that wait for a choice: a few frames side by side in one small picture."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

FRAMES, HEIGHT = 12, 160
"""The most frames of a strip, and the most pixels of its height."""

QUALITY, METHOD = 75, 2
"""Of WebP."""

Picture = tuple[int, bytes]
"""How many frames a strip has, and its file."""


def strip(frames: Tensor) -> Picture | None:
    """A strip of the frames ``[T, 3, H, W]`` in ``[0, 1]``, first and last among them; None where there is no frame."""
    from PIL import Image

    count = min(len(frames), FRAMES)
    if not count:
        return None
    chosen = [round(place * (len(frames) - 1) / max(1, count - 1)) for place in range(count)]
    levels = (frames[chosen].detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    high = min(HEIGHT, levels.shape[1])
    wide = max(1, round(levels.shape[2] * high / levels.shape[1]))
    picture = Image.new("RGB", (wide * count, high))
    for place, frame in enumerate(levels):
        picture.paste(Image.fromarray(frame).resize((wide, high)), (place * wide, 0))
    file = BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, method=METHOD)
    return count, file.getvalue()
