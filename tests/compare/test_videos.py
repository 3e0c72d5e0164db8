"""The videos of a comparison."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch

from streamt1_plugins.compare import videos
from streamt1_plugins.compare.run import read, run
from tests.compare.examples import comparison

FRAMES = torch.rand((6, 3, 8, 8), generator=torch.Generator().manual_seed(0))
ROW = {"recipe": "plain", "prompt": "a", "seed": 0}


def test_a_video_is_kept_and_the_row_names_it_and_its_size(tmp_path: Path) -> None:
    kept = videos.keep(tmp_path, ROW, FRAMES, 8.0)
    assert kept == {
        "made": {"frames": 6, "height": 8, "width": 8, "fps": 8.0},
        "video": f"videos/{videos.name_of(ROW)}.mp4",
    }
    with av.open(str(tmp_path / kept["video"])) as file:
        assert sum(1 for _ in file.decode(video=0)) == 6


def test_all_together_stay_within_the_limit(tmp_path: Path) -> None:
    assert "video" not in videos.keep(tmp_path, ROW, FRAMES, 8.0, limit_mb=0)
    assert not (tmp_path / "videos").exists()
    first = videos.keep(tmp_path, ROW, FRAMES, 8.0)
    limit = (tmp_path / first["video"]).stat().st_size * 1.5 / 1e6
    assert "video" not in videos.keep(tmp_path, {**ROW, "seed": 1}, FRAMES, 8.0, limit)
    assert len(list((tmp_path / "videos").iterdir())) == 1


def test_a_video_that_cannot_be_written_ends_no_comparison(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "videos").write_text("in the way")
    rows = list(run(comparison(prompts=["a"]), tmp_path))
    assert len(rows) == 2
    assert all("video" not in row and row["made"]["frames"] == 12 for row in rows)
    assert any("was not kept" in message for message in caplog.messages)


def test_rows_of_a_comparison_name_their_videos(tmp_path: Path) -> None:
    list(run(comparison(prompts=["a"]), tmp_path))
    names = [row["video"] for row in read(tmp_path)]
    assert len(set(names)) == 2
    assert all((tmp_path / name).stat().st_size for name in names)
