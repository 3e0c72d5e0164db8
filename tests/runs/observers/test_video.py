"""The video file as players see it, and what is left of it after failures."""

from __future__ import annotations

import json
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.errors import OutputError
from streamt1_plugins.runs.observers.folder import Folder
from streamt1_plugins.runs.observers.video import Encoder, Video, encode_video, to_pixels, write_video
from tests.runs.shared import Failing, run
from tests.search.revising import Returning
from tests.toy import ToyPipeline


def read(path: Path) -> tuple[torch.Tensor, av.VideoStream]:
    """Frames ``[T, H, W, 3]`` in ``[0, 1]`` of a file, and its stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    return torch.stack(frames).float() / 255, stream


def moving(count: int = 12, height: int = 64, width: int = 64) -> torch.Tensor:
    frames = torch.zeros(count, 3, height, width)
    frames[:, 2] = 0.6
    for i in range(count):
        frames[i, :, 16:32, 2 * i : 2 * i + 16] = torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    return frames


def test_the_file_has_no_chunk_that_was_abandoned(tmp_path: Path) -> None:
    for reach in (2, 1):
        policy, path = Returning(to=3 - reach, reach=reach), tmp_path / f"{reach}.mp4"
        pipe = streamt1.wrap(ToyPipeline(), policies={"revision": policy}, observers={"video": Video(str(path))})
        pipe("a prompt")
        write_video(torch.cat(pipe.last_run.beams[0].history.frames), tmp_path / "whole.mp4", 8.0)
        assert path.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_small_video_is_enlarged_and_keeps_its_pixels_and_colours(tmp_path: Path) -> None:
    frames = moving()
    write_video(frames, tmp_path / "v.mp4", 16.0)
    seen, stream = read(tmp_path / "v.mp4")
    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert seen.shape == (12, 256, 256, 3)
    assert stream.average_rate == 16
    assert (seen[:, 2::4, 2::4] - frames.permute(0, 2, 3, 1)).abs().mean() < 0.01


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((64, 96), 3, (192, 288)), ((33, 35), 1, (34, 36)), ((300, 260), "auto", (300, 260))],
)
def test_sizes_are_scaled_by_an_integer_and_made_even(
    tmp_path: Path, size: tuple, scale: object, expected: tuple
) -> None:
    frames = moving(3, *size)
    write_video(frames, tmp_path / "v.mp4", 12.5, scale=scale)
    seen, stream = read(tmp_path / "v.mp4")
    assert tuple(seen.shape[1:3]) == expected
    assert float(stream.average_rate) == 12.5


def test_pixels_are_rounded_and_clamped() -> None:
    frame = torch.tensor([-1.0, 0.5, 2.0]).view(3, 1, 1).expand(3, 2, 2)
    assert to_pixels(frame, 1)[0, 0].tolist() == [0, 128, 255]


def test_frames_of_any_float_type_may_come_one_by_one(tmp_path: Path) -> None:
    write_video((frame.bfloat16() for frame in moving(5)), tmp_path / "v.mp4", 16)
    assert len(read(tmp_path / "v.mp4")[0]) == 5


def test_the_observer_writes_the_best_branch(tmp_path: Path) -> None:
    pipe = run({"video": Video(str(tmp_path / "deep" / "v.mp4"), crf=1, scale=128)})
    seen, stream = read(tmp_path / "deep" / "v.mp4")
    best = torch.cat(pipe.run.beams[0].history.frames)
    assert stream.average_rate == 8
    assert (seen[:, 64::128, 64::128] - best.permute(0, 2, 3, 1)).abs().mean() < 0.01


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broke")])
def test_a_run_that_ends_early_leaves_the_video_so_far(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run({"video": Video(str(tmp_path / "v.mp4")), "failing": Failing(1, error)})
    assert len(read(tmp_path / "v.mp4")[0]) == 6


def test_a_run_that_ends_before_the_first_chunk_leaves_none(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        run({"video": Video(str(tmp_path / "v.mp4"))}, fail_at=0)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_tree_and_no_part_of_the_video(tmp_path: Path) -> None:
    out = tmp_path / "run"
    watchers = {"folder": Folder(str(out)), "video": Video(str(out / "v.mp4"), crf=0, scale=200)}
    limit = 4000  # bytes of a file: room for the tree of a plain run, none for the video
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(
            OutputError,
            match=r"tree is kept in .*tree\.json, but the video .*v\.mp4 could not be written: File too large",
        ):
            run(watchers, recipe="plain")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(file.name for file in out.iterdir()) == ["recipe.yaml", "summary.json", "tree.json"]
    assert len(json.loads((out / "tree.json").read_text())["winner"]) == 4


def test_a_failing_codec_is_an_output_error_that_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v.mp4").write_text("old")

    def broken(*args: object, **kwargs: object) -> None:
        raise av.error.ExternalError(-542398533, "no more memory")

    monkeypatch.setattr(av.VideoFrame, "from_ndarray", broken)
    with pytest.raises(OutputError, match=r"H\.264 encoder failed"):
        run({"video": Video(str(tmp_path / "v.mp4"))})
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_video_where_no_folder_can_be_is_refused_before_anything_is_generated(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pipe = streamt1.wrap(ToyPipeline(), observers={"video": Video(str(tmp_path / "file" / "v.mp4"))})
    with pytest.raises(OutputError, match="is a file"):
        pipe("a prompt")
    assert pipe.run.session.forwards == 0


def test_no_frames_make_no_video() -> None:
    with pytest.raises(ValueError, match="no frames"):
        encode_video([], 16)


def encoded_early(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the number of frames that were encoded before the run ended, job by job."""
    found, real = list[int](), Encoder.add

    def add(encoder: Encoder, frames: object) -> None:
        if isinstance(frames, torch.Tensor):
            found.append(len(frames))
        real(encoder, frames)

    monkeypatch.setattr(Encoder, "add", add)
    return found


@pytest.mark.parametrize("recipe", ["stream-t1", "plain", "best-of-n"])
def test_what_all_branches_share_is_encoded_during_the_run_and_the_file_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    early = encoded_early(monkeypatch)
    pipe = run({"video": Video(str(tmp_path / "v.mp4"), crf=1)}, recipe=recipe, chunks=6)
    best = torch.cat(pipe.run.beams[0].history.frames)
    assert (tmp_path / "v.mp4").read_bytes() == encode_video(list(best), 8.0, crf=1)
    expected = {"plain": [3] * 6, "best-of-n": []}
    assert early == expected.get(recipe, early)


def test_a_video_that_does_not_begin_with_what_was_encoded_is_encoded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Switching:
        """Another branch than all the others wins in the end."""

        @hookimpl(tryfirst=True)
        def streamt1_run_finished(self, run: Any) -> None:
            history = run.beams[0].history
            frames = tuple(1 - each for each in history.frames)
            run.beams = (replace(run.beams[0], history=replace(history, frames=frames)),)

    early = encoded_early(monkeypatch)
    observers = {"switch": Switching(), "video": Video(str(tmp_path / "v.mp4"), crf=1)}
    pipe = run(observers, recipe="plain", chunks=3)
    assert early == [3, 3, 3]
    best = torch.cat(pipe.run.beams[0].history.frames)
    assert (tmp_path / "v.mp4").read_bytes() == encode_video(list(best), 8.0, crf=1)


def test_an_encoder_that_fails_once_during_the_run_costs_no_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Encoder.add, list[int]()

    def add(encoder: Encoder, frames: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("no room for a moment")
        real(encoder, frames)

    monkeypatch.setattr(Encoder, "add", add)
    pipe = run({"video": Video(str(tmp_path / "v.mp4"))}, recipe="plain", chunks=3)
    assert len(read(tmp_path / "v.mp4")[0]) == sum(map(len, pipe.run.beams[0].history.frames))
