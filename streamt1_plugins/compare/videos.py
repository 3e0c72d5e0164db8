"""The videos of a comparison, kept as files beside its page as long as all of them together stay within a limit."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from streamt1_plugins.runs.files import MEGABYTE, warned, write_atomically
from streamt1_plugins.runs.observers.video import encode_video

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

FOLDER = "videos"
LIMIT = 500.0  # megabytes


def name_of(row: Mapping[str, Any]) -> str:
    """What the files of a row are called: a digest of its recipe, seed and prompt."""
    identity = f"{row['recipe']}\n{row['seed']}\n{row['prompt']}"
    return sha256(identity.encode("utf-8", "replace")).hexdigest()[:16]


def keep(out: Path, row: Mapping[str, Any], frames: Tensor, fps: float, limit_mb: float = LIMIT) -> dict[str, Any]:
    """Write a row's video; returns what the row says of it: its frames, and the path in `out` where it was kept.

    It is left out where the folder would have more than `limit_mb` megabytes with it, or cannot be written.
    """
    made = {"frames": len(frames), "height": frames.shape[-2], "width": frames.shape[-1], "fps": fps}
    left, path = limit_mb * MEGABYTE - _used(out), out / FOLDER / f"{name_of(row)}.mp4"
    if left <= 0:
        return {"made": made}
    with warned(f"The video {path} was not kept"):
        content = encode_video(frames, fps)
        if len(content) <= left:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, content)
            return {"made": made, "video": f"{FOLDER}/{path.name}"}
    return {"made": made}


def _used(out: Path) -> int:
    """Bytes of the videos that the folder holds."""
    return sum(each.lstat().st_size for each in (out / FOLDER).glob("*.mp4"))
