"""The pictures in the README: what its command makes, without and with the search, moving and as a strip.

python docs/evidence/picture.py docs/images        # readme.webp and readme.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import streamt1_plugins as streamt1

PROMPT = "a green circle bouncing and a red star bouncing on a white background"
RECIPES = ("plain", "stream-t1")
STEP, MARGIN, GAP = 10, 24, 8  # frames between two of the strip; pixels for a caption, and between two videos
SCALE, LARGE, FPS = 2, 4, 8
FONT = ImageFont.load_default(15)


def videos() -> dict[str, np.ndarray]:
    """The frames of the command's video by recipe, ``[T, H, W, 3]`` of 8 bits; the seed is that of the recipes."""
    plain = streamt1.load(recipe="plain")
    found = {}
    for name in RECIPES:
        pipe = streamt1.wrap(plain.pipe, name, adapter=plain.recipe.adapter.name)
        generator = torch.Generator().manual_seed(pipe.recipe.seed)
        frames = pipe(PROMPT, generator=generator).frames[0]
        found[name] = (frames * 255).round().astype(np.uint8)
    return found


def enlarged(frame: np.ndarray, scale: int) -> Image.Image:
    picture = Image.fromarray(frame)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def strip(frames: np.ndarray) -> Image.Image:
    """Every tenth frame side by side."""
    return enlarged(
        np.concatenate([np.pad(each, ((0, 0), (0, 1), (0, 0)), constant_values=255) for each in frames], 1), SCALE
    )


def stacked(rows: dict[str, Image.Image]) -> Image.Image:
    """A caption and a strip for each recipe."""
    width, height = (max(each.width for each in rows.values()), sum(each.height + MARGIN for each in rows.values()))
    page = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(page), 0
    for text, picture in rows.items():
        draw.text((4, top + 3), text, fill="black", font=FONT)
        page.paste(picture, (0, top + MARGIN))
        top += picture.height + MARGIN
    return page


def beside(pictures: dict[str, Image.Image]) -> Image.Image:
    """A frame of both videos side by side, each below its name."""
    size = next(iter(pictures.values())).width
    page = Image.new("RGB", (2 * size + GAP, size + MARGIN), "white")
    draw = ImageDraw.Draw(page)
    for column, (text, picture) in enumerate(pictures.items()):
        left = column * (size + GAP)
        draw.text((left + 4, 3), text, fill="black", font=FONT)
        page.paste(picture, (left, MARGIN))
    return page


def main(folder: Path) -> None:
    found = videos()
    rows = {f"{name}: {PROMPT}": strip(frames[::STEP]) for name, frames in found.items()}
    stacked(rows).save(folder / "readme.png", optimize=True)
    step = 16 // FPS
    moving = [
        beside({name: enlarged(frame, LARGE) for name, frame in zip(found, frames, strict=True)})
        for frames in zip(*(each[::step] for each in found.values()), strict=True)
    ]
    moving[0].save(
        folder / "readme.webp",
        save_all=True,
        append_images=moving[1:],
        duration=1000 // FPS,
        loop=0,
        quality=75,
        method=6,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
