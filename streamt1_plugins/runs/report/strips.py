"""Film strips: a few frames of a candidate side by side in one small picture, drawn while it has frames."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import InputError
from streamt1_plugins.runs.files import MEGABYTE, STRIPS, check_plain, read_file, write_atomically

if TYPE_CHECKING:
    from collections.abc import Container

    import numpy
    from PIL.Image import Image
    from torch import Tensor

FOLDER = STRIPS
MAX_BYTES, MAX_TOTAL = 8 * MEGABYTE, 256 * MEGABYTE
QUALITY, METHOD = 72, 2
"""Of WebP. Method 4, libwebp's default, takes four times as long for files 7 % smaller."""
LEVELS = ((12, 160), (12, 112), (9, 96), (8, 72), (6, 64), (5, 48))
"""(frames, height) from generous to frugal."""

_NAME = re.compile(r"(?P<node>\d{3,6}\.\d{2,6})-(?P<frames>[1-9]\d{0,2})\.webp")

log = logging.getLogger("streamt1")


@dataclass(frozen=True)
class Strip:
    """A file with `frames` pictures in a row."""

    path: Path
    frames: int


@dataclass(frozen=True)
class Picture:
    """What a strip's file holds; `aspect`: width by height of a frame."""

    frames: int
    content: bytes
    aspect: float


def find(folder: Path) -> dict[str, Strip]:
    """The strips of a run folder by node id. Raises `InputError` where one is a link or no regular file."""
    check_plain(folder / FOLDER, folder=True)
    names = ((path, _NAME.fullmatch(path.name)) for path in sorted((folder / FOLDER).glob("*.webp")))
    found = {match["node"]: Strip(path, int(match["frames"])) for path, match in names if match}
    for strip in found.values():
        check_plain(strip.path)
    return found


def pictures(folder: Path, nodes: Container[str]) -> dict[str, Picture]:
    """The strips of `nodes` in a run folder, read; a warning names files that are no pictures.

    Raises `InputError` where a file is a link, no regular file or too large, or all of them together are.
    """
    found, left = {}, MAX_TOTAL
    for node, strip in find(folder).items():
        if node not in nodes:
            continue
        content = read_file(strip.path, MAX_BYTES)
        left -= len(content)
        if left < 0:
            raise InputError(f"{folder / FOLDER} has pictures of more than {MAX_TOTAL:,} bytes: too many for a page.")
        size = _size(content)
        if size is None:
            log.warning("%s is not a picture; the page is made without it.", strip.path)
        else:
            found[node] = Picture(strip.frames, content, size[0] / strip.frames / size[1])
    return found


def _size(content: bytes) -> tuple[int, int] | None:
    """(width, height) of a picture in pixels, None where the bytes are none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(content), formats=("WEBP",)) as picture:
            width, height = picture.size
            return width, height
    # A damaged file may break its reader in any of these ways.
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        return None


def copy(source: Path, target: Path, nodes: Container[str]) -> None:
    """Bring the strips of `nodes` to another run folder. Raises `InputError` where one is no regular file."""
    for node, strip in find(source).items():
        if node in nodes:
            (target / FOLDER).mkdir(parents=True, exist_ok=True)
            write_atomically(target / FOLDER / strip.path.name, read_file(strip.path, MAX_BYTES))


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
    """Frames ``[..., 3, H, W]`` in ``[0, 1]``, or as `on_host` returns them, as bytes ``[..., H, W, 3]``."""
    return _levels(frames).movedim(-3, -1).cpu().numpy()


def on_host(frames: Tensor) -> Tensor:
    """The frames in CPU memory: themselves, or from a device as bytes."""
    return frames if frames.device.type == "cpu" else _levels(frames).cpu()


def _levels(frames: Tensor) -> Tensor:
    return (frames.detach().float().clamp(0, 1) * 255).round().byte() if frames.is_floating_point() else frames


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
        check_plain(self._folder, folder=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._kept = find(folder)
        self._left = budget - sum(strip.path.stat().st_size for strip in self._kept.values())
        self._expected = expected
        self._level = 0

    def keep(self, node: str, frames: Tensor) -> None:
        """Write the strip of one candidate; nothing when the budget is spent. Raises `OSError`."""
        share = self._left / max(1, self._expected)
        self._expected -= 1
        if self._left <= 0:
            return
        content, count = self._smallest_needed(frames, share)
        if node in self._kept:  # of an earlier attempt at the same chunk
            self._kept.pop(node).path.unlink(missing_ok=True)
        write_atomically(self._folder / f"{node}-{count}.webp", content)
        self._left -= len(content)

    def _smallest_needed(self, frames: Tensor, share: float) -> tuple[bytes, int]:
        while True:
            count, height = LEVELS[self._level]
            content = encoded(draw(frames, count, height), "WEBP", quality=QUALITY, method=METHOD)
            if len(content) <= share or self._level == len(LEVELS) - 1:
                return content, min(count, len(frames))
            self._level += 1
