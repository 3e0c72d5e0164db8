"""Film strips: their frames and their budget."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from streamt1_plugins.errors import InputError
from streamt1_plugins.runs.report import render, strips
from streamt1_plugins.runs.report.strips import StripKeeper
from tests.runs.shared import recorded


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


def a_strip(folder: Path) -> Path:
    """One strip of a recorded run."""
    recorded(folder)
    return next(iter(strips.find(folder).values())).path


def linked(path: Path) -> None:
    path.rename(path.with_name("secret"))
    path.symlink_to(path.with_name("secret"))


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(strips.MAX_BYTES + 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize(
    ("put", "problem"),
    [
        (linked, "is a symbolic link"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.mkdir(), "not a regular file"),
        (large, r"has 8,000,001 bytes; .* at most 8,000,000"),
    ],
)
def test_the_page_holds_regular_files_of_the_folder_alone(tmp_path: Path, put: object, problem: str) -> None:
    path = a_strip(tmp_path)
    if put is not linked:
        path.unlink()
    assert callable(put)
    put(path)
    with pytest.raises(InputError, match=problem):
        render(tmp_path)


def test_a_linked_folder_of_strips_is_refused(tmp_path: Path) -> None:
    recorded(tmp_path / "run")
    (tmp_path / "run" / "strips").rename(tmp_path / "elsewhere")
    (tmp_path / "run" / "strips").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(InputError, match="strips is a symbolic link"):
        render(tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"RIFF1234WEBPVP8 ", b"<script>", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_left_out(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = a_strip(tmp_path)
    path.write_bytes(content)
    found = strips.pictures(tmp_path, {"000.00", "000.01"})
    assert set(found) == {"000.01"}
    assert f"{path} is not a picture" in caplog.text
    assert "data-" in render(tmp_path)


def test_all_pictures_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(tmp_path)
    monkeypatch.setattr(strips, "MAX_TOTAL", 100)
    with pytest.raises(InputError, match="more than 100 bytes"):
        render(tmp_path)


def test_only_strips_are_replaced(tmp_path: Path) -> None:
    keeper = StripKeeper(tmp_path, 200_000, 4)
    mine = tmp_path / strips.FOLDER / "000.00-mine.webp"
    mine.write_text("mine")
    frames = torch.zeros(3, 3, 8, 8)
    keeper.keep("000.00", frames)
    StripKeeper(tmp_path, 200_000, 4).keep("000.00", torch.zeros(9, 3, 8, 8))
    assert sorted(path.name for path in mine.parent.iterdir()) == ["000.00-9.webp", mine.name]
