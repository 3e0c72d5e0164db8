"""Film strips: a few frames of a candidate side by side in one small picture, drawn while it has frames."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.runs.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Container

    import numpy
    from PIL.Image import Image
    from torch import Tensor

FOLDER = "strips"
QUALITY = 72
LEVELS = ((12, 160), (12, 112), (9, 96), (8, 72), (6, 64), (5, 48))
"""(frames, height) from generous to frugal."""

_NAME = re.compile(r"(?P<node>\d+\.\d+)-(?P<frames>\d+)\.webp")


@dataclass(frozen=True)
class Strip:
    """A file with `frames` pictures in a row."""

    path: Path
    frames: int


def find(folder: Path) -> dict[str, Strip]:
    """The strips of a run folder by node id."""
    names = ((path, _NAME.fullmatch(path.name)) for path in sorted((folder / FOLDER).glob("*.webp")))
    return {match["node"]: Strip(path, int(match["frames"])) for path, match in names if match}


def copy(source: Path, target: Path, nodes: Container[str]) -> None:
    """Bring the strips of `nodes` to another run folder."""
    for node, strip in find(source).items():
        if node in nodes:
            (target / FOLDER).mkdir(parents=True, exist_ok=True)
            shutil.copy(strip.path, target / FOLDER)


def draw(frames: Tensor, count: int, height: int) -> Image:
    """`count` of the frames ``[T, 3, H, W]``, first and last among them, at most `height` pixels high."""
    from PIL import Image

    count = min(len(frames), count)
    chosen = [round(i * (len(frames) - 1) / max(1, count - 1)) for i in range(count)]
    pixels = to_bytes(frames[chosen])
    tall = min(height, pixels.shape[1])
    wide = max(1, round(pixels.shape[2] * tall / pixels.shape[1]))
    strip = Image.new("RGB", (wide * len(chosen), tall))
    for place, picture in enumerate(pixels):
        shrunk = Image.fromarray(picture).resize((wide, tall), Image.Resampling.LANCZOS)
        strip.paste(shrunk, (place * wide, 0))
    return strip


def to_bytes(frames: Tensor) -> numpy.ndarray[Any, Any]:
    """Frames ``[..., 3, H, W]`` in ``[0, 1]`` as bytes ``[..., H, W, 3]``."""
    return (frames.detach().float().clamp(0, 1) * 255).round().byte().movedim(-3, -1).cpu().numpy()


def encoded(picture: Image, kind: str, **options: Any) -> bytes:
    """The bytes of a picture file; kind: `WEBP`, `JPEG`."""
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


class StripKeeper:
    """Keeps a strip of every candidate within a budget of bytes for the whole run.

    Strips get smaller as soon as one would take more than its share of what is left, and stay small: neighbours should
    look alike.
    """

    def __init__(self, folder: Path, budget: int, expected: int) -> None:
        """`expected`: how many candidates are to come. Strips that the folder already holds count as spent."""
        self._folder = folder / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._left = budget - sum(path.stat().st_size for path in self._folder.glob("*.webp"))
        self._expected = expected
        self._level = 0

    def keep(self, node: str, frames: Tensor) -> None:
        """Write the strip of one candidate; nothing when the budget is spent. Raises `OSError`."""
        share = self._left / max(1, self._expected)
        self._expected -= 1
        if self._left <= 0:
            return
        content, count = self._smallest_needed(frames, share)
        for stale in self._folder.glob(f"{node}-*.webp"):
            stale.unlink()
        write_atomically(self._folder / f"{node}-{count}.webp", content)
        self._left -= len(content)

    def _smallest_needed(self, frames: Tensor, share: float) -> tuple[bytes, int]:
        while True:
            count, height = LEVELS[self._level]
            content = encoded(draw(frames, count, height), "WEBP", quality=QUALITY, method=4)
            if len(content) <= share or self._level == len(LEVELS) - 1:
                return content, min(count, len(frames))
            self._level += 1
