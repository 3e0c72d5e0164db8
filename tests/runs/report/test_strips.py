"""Film strips: their frames and their budget."""

from __future__ import annotations

from pathlib import Path

import torch

from streamt1_plugins.runs.report import strips
from streamt1_plugins.runs.report.strips import StripKeeper


def test_strips_shrink_to_fit_their_budget(tmp_path: Path) -> None:
    noise = torch.rand(12, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    keeper = StripKeeper(tmp_path, 200_000, 20)
    for ordinal in range(20):
        keeper.keep(f"000.{ordinal:02d}", noise)
    found = strips.find(tmp_path)
    assert len(found) == 20
    assert sum(strip.path.stat().st_size for strip in found.values()) <= 210_000
    assert {strip.frames for strip in found.values()} <= {frames for frames, _ in strips.LEVELS}


def test_a_strip_has_the_first_and_the_last_frame() -> None:
    frames = torch.linspace(0, 1, 12).view(12, 1, 1, 1).expand(12, 3, 8, 8)
    strip = strips.draw(frames, 5, 8)
    assert strip.size == (40, 8)
    assert (strip.getpixel((0, 0))[0], strip.getpixel((39, 0))[0]) == (0, 255)
