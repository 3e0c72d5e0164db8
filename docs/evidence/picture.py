"""The picture in the README: the same prompts and seed without and with the search, every tenth frame.

python docs/evidence/picture.py docs/images/readme.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import streamt1_plugins as streamt1

PROMPTS = (
    "a white star moving up quickly and a red square moving up quickly on a black background",
    "a red circle moving right on a blue background",
)
SEED, SCALE, STEP, MARGIN = 3, 2, 10, 24


def strip(pipe: streamt1.StreamPipeline, prompt: str) -> Image.Image:
    frames = pipe(prompt, generator=torch.Generator().manual_seed(SEED)).frames[0][::STEP]
    row = np.concatenate([np.pad(frame, ((0, 0), (0, 1), (0, 0)), constant_values=1) for frame in frames], axis=1)
    picture = Image.fromarray((row * 255).round().astype(np.uint8))
    return picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.NEAREST)


def main(out: Path) -> None:
    plain = streamt1.load(recipe="plain")
    searched = streamt1.wrap(plain.pipe, "stream-t1", adapter="tinyworld")
    rows = []
    for prompt in PROMPTS:
        rows += [(f"plain: {prompt}", strip(plain, prompt)), (f"stream-t1: {prompt}", strip(searched, prompt))]
    width, height = rows[0][1].width, sum(picture.height + MARGIN for _, picture in rows)
    page = Image.new("RGB", (width, height), "white")
    draw, font, top = ImageDraw.Draw(page), ImageFont.load_default(15), 0
    for text, picture in rows:
        draw.text((4, top + 3), text, fill="black", font=font)
        page.paste(picture, (0, top + MARGIN))
        top += picture.height + MARGIN
    page.save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
