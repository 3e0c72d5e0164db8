"""Strips of candidates that wait, and the files of runs that are read."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from streamt1_studio import files
from streamt1_studio.pictures import FRAMES, HEIGHT, strip


@pytest.mark.parametrize(("count", "size"), [(1, (8, 12)), (9, (64, 64)), (40, (480, 832))])
def test_a_strip_has_frames_from_first_to_last(count: int, size: tuple[int, int]) -> None:
    frames = torch.linspace(0, 1, count)[:, None, None, None].expand(count, 3, *size)
    found = strip(frames)
    assert found is not None
    shown, content = found
    picture = Image.open(BytesIO(content)).convert("L")
    assert shown == min(count, FRAMES)
    assert picture.height == min(size[0], HEIGHT)
    assert picture.width == shown * round(size[1] * picture.height / size[0])
    ends = picture.getpixel((2, 2)), picture.getpixel((picture.width - 3, 2))
    assert abs(ends[0] - 0) < 8
    assert abs(ends[1] - (255 if count > 1 else 0)) < 8


def test_no_frames_have_no_strip() -> None:
    assert strip(torch.zeros(0, 3, 8, 8)) is None


def test_strips_have_names_that_candidates_have(tmp_path: Path) -> None:
    (tmp_path / "strips").mkdir()
    for name in ("000.01-4.webp", "x.webp", "000.02-0.webp", "..-3.webp", "000.03-12.png"):
        (tmp_path / "strips" / name).write_bytes(b"x")
    assert {node: count for node, (count, _) in files.strips(tmp_path).items()} == {"000.01": 4}
    assert files.strips(tmp_path / "nothing") == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_an_empty_one(content: bytes) -> None:
    assert files.parsed(content) == {}
