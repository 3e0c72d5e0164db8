"""What the index shows of a run: its prompt, seed, score and readings, and its first and last frame."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from io import BytesIO
from statistics import fmean
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.errors import StreamT1Error
from streamt1_plugins.runs.files import JOURNAL, PAGE, VIDEO
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.runs.report import strips

if TYPE_CHECKING:
    from pathlib import Path

HEIGHT, QUALITY, GAP = 128, 78, 2
"""Of a picture of two frames: its greatest height in pixels, the JPEG quality, pixels between the frames."""


@dataclass(frozen=True)
class Card:
    """A run of a folder, as the index shows it. `page` and `video`: names inside its folder, None where it has none."""

    folder: str
    prompt: str
    seed: int
    recipe: str
    status: str
    made: str
    started: str
    seconds: float = 0.0
    length: float = 0.0
    score: float | None = None
    readings: dict[str, float] = field(default_factory=dict)
    page: str | None = None
    video: str | None = None
    picture: str | None = None
    aspect: float = 2.0

    @property
    def values(self) -> dict[str, float | None]:
        """What a page can be sorted by."""
        return {"score": self.score} | {f"reading {name}": value for name, value in self.readings.items()}

    @property
    def is_finished(self) -> bool:
        return self.status == "finished"


def card_of(folder: Path) -> Card | None:
    """The card of the run in a folder, None where it holds none that can be read."""
    if not (folder / JOURNAL).is_file():
        return None
    try:
        recorded = RecordedRun.read(folder)
        return _card(recorded)
    except StreamT1Error:
        return None


def _card(recorded: RecordedRun) -> Card:
    start, recipe, frames = recorded.start, recorded.recipe, sum(recorded.frames.values())
    picture, aspect = ends(recorded) or (None, 2.0)
    return Card(
        folder=recorded.folder.name,
        prompt=start["prompt"],
        seed=start["seed"],
        recipe=start.get("recipe_name") or recipe.description or "a recipe without a name",
        status=recorded.status,
        made=f"{len(recorded.frames)} of {start['chunks']} chunks",
        started=start["time"],
        seconds=recorded.seconds,
        length=frames / start["fps"],
        score=recorded.score,
        readings=readings_of(recorded),
        page=_own(recorded.folder, PAGE),
        video=_own(recorded.folder, VIDEO),
        picture=picture,
        aspect=aspect,
    )


def readings_of(recorded: RecordedRun) -> dict[str, float]:
    """The raw readings of each reward, the mean over the winner's chunks: on the reward's own scale."""
    taken: dict[str, list[float]] = {}
    for node in recorded.winner:
        own = {name: each.raw for horizon in HORIZONS for name, each in node.readings.get(horizon, {}).items()}
        for name, raw in own.items():
            if math.isfinite(raw):
                taken.setdefault(name, []).append(raw)
    return {name: round(fmean(values), 4) for name, values in sorted(taken.items())}


def ends(recorded: RecordedRun) -> tuple[str, float] | None:
    """(the first and the last frame of the best branch side by side, as a JPEG in base64; its width by its height).

    None where the run has kept no pictures of them.
    """
    from PIL import Image

    path = [node.id for node in recorded.winner]
    found = strips.pictures(recorded.folder, {*path[:1], *path[-1:]}) if path else {}
    if not found:
        return None
    first, last = (found.get(path[place]) for place in (0, -1))
    frames = [_frame(each, place) for each, place in ((first, 0), (last, -1)) if each]
    tall = min(HEIGHT, *(frame.height for frame in frames))
    shrunk = [frame.resize((max(1, round(frame.width * tall / frame.height)), tall)) for frame in frames]
    wide = sum(frame.width for frame in shrunk) + GAP * (len(shrunk) - 1)
    both, left = Image.new("RGB", (wide, tall), "#808080"), 0
    for frame in shrunk:
        both.paste(frame, (left, 0))
        left += frame.width + GAP
    return base64.b64encode(strips.encoded(both, "JPEG", quality=QUALITY, optimize=True)).decode(), wide / tall


def _frame(strip: strips.Picture, place: int) -> Any:
    """A frame of a strip: 0 is the first, -1 the last."""
    from PIL import Image

    with Image.open(BytesIO(strip.content), formats=("WEBP",)) as picture:
        whole = picture.convert("RGB")
    wide = whole.width // strip.frames
    left = 0 if place == 0 else whole.width - wide
    return whole.crop((left, 0, left + wide, whole.height))


def _own(folder: Path, name: str) -> str | None:
    return name if (folder / name).is_file() else None
