"""What observers leave: run folder, video as players see it, lines on standard error; and what after failures."""

from __future__ import annotations

import errno
import io
import json
import resource
from pathlib import Path

import av
import pytest
import torch
import yaml
from rich.console import Console as Terminal

import streamt1_plugins as streamt1
from streamt1_plugins import hookimpl
from streamt1_plugins.api.tree import Tree
from streamt1_plugins.api.types import Chunk, Node
from streamt1_plugins.config import load as recipe
from streamt1_plugins.errors import OutputError, PluginError, RecipeError
from streamt1_plugins.runs.files import check_writable, to_json, write_atomically
from streamt1_plugins.runs.observers import folder as folders
from streamt1_plugins.runs.observers.console import Console, chunk_line, tree_table
from streamt1_plugins.runs.observers.folder import Folder
from streamt1_plugins.runs.observers.video import Video, encode_video, to_pixels, write_video
from tests.toy import ToyPipeline


def run(observers: dict[str, object], *overrides: str, recipe: str = "stream-t1", **call: object) -> object:
    pipe = streamt1.wrap(ToyPipeline(), recipe, overrides=overrides, observers=observers)
    pipe("a prompt", **call)
    return pipe


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


class Failing:
    """Breaks at one moment of the run."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error = at, error

    @hookimpl
    def streamt1_chunk_selected(self, chunk: Chunk) -> None:
        if chunk.index == self.at:
            raise self.error


# --- the video -------------------------------------------------------------------------------------------------------


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
            OutputError, match=r"v\.mp4 could not be written: File too large.*tree is kept in .*tree\.json"
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


# --- the folder ------------------------------------------------------------------------------------------------------


def test_the_folder_holds_the_complete_recipe_tree_and_summary(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one"
    pipe = run({"folder": Folder(str(out))}, "search.candidates=3", "seed=7")
    assert recipe.load(out / "recipe.yaml") == pipe.recipe
    assert json.loads((out / "tree.json").read_text()) == json.loads(to_json(pipe.tree.to_dict()))
    found = json.loads((out / "summary.json").read_text())
    assert found["prompt"] == "a prompt"
    assert found["seed"] == 7
    assert found["error"] is None
    assert found["chunks"] == {"done": 4, "of": 4}
    assert found["video"] == {"frames": 12, "height": 2, "width": 2, "fps": 8.0}
    assert found["cost"]["candidates"] == 24
    assert found["winner"]["path"] == list(pipe.tree.winner)
    assert found["winner"]["whole_video"] == pipe.tree.final[pipe.tree.winner[-1]]
    assert {"wall", "generate", "decode", "reward", "commit"} <= set(found["seconds"])
    assert {"python", "torch", "diffusers", "transformers", "streamt1-plugins"} == set(found["versions"])


def test_without_rewards_there_is_no_score(tmp_path: Path) -> None:
    run({"folder": Folder(str(tmp_path / "o"))}, recipe="plain")
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["winner"]["score"] is None


def test_the_tree_is_on_disk_after_every_chunk_and_whole_at_any_time(tmp_path: Path) -> None:
    seen: list[int] = []

    class Reader:
        @hookimpl(trylast=True)
        def streamt1_chunk_selected(self) -> None:
            seen.append(len(json.loads((tmp_path / "o" / "tree.json").read_text())["nodes"]))
            assert not [file for file in (tmp_path / "o").iterdir() if file.name.endswith(".part")]

    run({"folder": Folder(str(tmp_path / "o")), "reader": Reader()})
    assert seen == [4, 8, 12, 16]


def test_an_interrupted_run_says_so_in_its_summary(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run({"folder": Folder(str(tmp_path / "o")), "failing": Failing(1, KeyboardInterrupt())})
    found = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert found["error"] == "KeyboardInterrupt"
    assert found["chunks"] == {"done": 2, "of": 4}
    assert len(found["winner"]["path"]) == 2


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "o"
    run({"folder": Folder(str(out))})
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(OutputError, match="already holds a run"):
        run({"folder": Folder(str(out))}, "seed=1")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.parametrize("below", ["file", "file/deeper"])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_generated(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    pipe = streamt1.wrap(ToyPipeline(), observers={"folder": Folder(str(tmp_path / below))})
    with pytest.raises(OutputError, match=r"cannot be made: .* is a file"):
        pipe("a prompt")
    assert pipe.run.session.forwards == 0


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders.os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission"):
        check_writable(tmp_path / "a" / "b")


def test_a_full_disk_at_a_chunk_does_not_end_the_run_but_at_the_end_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = folders.write_atomically

    def full(path: Path, content: str | bytes) -> None:
        if path.name == folders.TREE:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(folders, "write_atomically", full)
    with pytest.raises(OutputError, match=r"could not be brought up to date in .*: No space left on device"):
        run({"folder": Folder(str(tmp_path / "o"))})
    assert "tree.json was not updated" in caplog.text


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "f"
    write_atomically(target, "old")

    def half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["f"]
    assert target.read_text() == "old"


def test_json_has_no_nan() -> None:
    assert json.loads(to_json({"a": [float("nan"), 1.5], "b": {"c": float("inf")}})) == {
        "a": [None, 1.5],
        "b": {"c": None},
    }


# --- the console -----------------------------------------------------------------------------------------------------


def test_without_a_terminal_there_is_a_line_per_chunk_and_notes_come_once(capsys: pytest.CaptureFixture[str]) -> None:
    run({"console": Console()}, "rewards.long.picky={options: {chunk: 1, ordinals: [0, 1, 2, 3]}}")
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert shown.out == ""
    assert [line[:9] for line in lines if line.startswith("chunk")] == [f"chunk {i}/4" for i in range(1, 5)]
    assert sum("no valid candidate" in line for line in lines) == 1


def test_in_a_terminal_a_bar_shows_chunks_candidates_and_the_best_score(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console._terminal = Terminal(stderr=True, force_terminal=True, width=120)
    run({"console": console})
    shown = capsys.readouterr().err
    assert "chunk 1/4" in shown
    assert "16 candidates" in shown
    assert "eta" in shown


def test_the_bar_is_taken_down_when_the_run_fails() -> None:
    console = Console()
    console._terminal = Terminal(stderr=True, force_terminal=True, width=120)
    with pytest.raises(RuntimeError):
        run({"console": console}, fail_at=1)
    assert console._bar is None


def test_a_line_and_a_table_tell_invalid_candidates_and_missing_scores() -> None:
    nodes = [
        Node(chunk=0, ordinal=0, parent=None, seed=1, problem="NaN", fate="invalid"),
        Node(chunk=0, ordinal=1, parent=None, seed=2, fate="kept", rank=0),
    ]
    assert "2 candidates  best -  mean -  kept 000.01" in chunk_line(Chunk(0, 2), nodes)
    tree = Tree({node.id: node for node in nodes}, winner=("000.01",))
    terminal = Terminal(width=100, record=True, file=io.StringIO())
    terminal.print(tree_table(tree))
    assert "2 (1 invalid)" in terminal.export_text()


# --- named by a recipe -----------------------------------------------------------------------------------------------


def test_observers_are_parts_of_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = {
        "console": {"plain": True},
        "folder": {"path": str(tmp_path / "o")},
        "video": {"path": str(tmp_path / "v.mp4"), "crf": 30},
    }
    streamt1.wrap(ToyPipeline(), {"extends": "plain", "observers": named})("a prompt")
    assert (tmp_path / "v.mp4").stat().st_size
    assert yaml.safe_load((tmp_path / "o" / "recipe.yaml").read_text())["observers"] == named
    assert "chunk 4/4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("observers", "message"),
    [
        ({"video": {"path": "v.mp4", "crf": 99}}, "crf = 99"),
        ({"video": {"path": "v.mp4", "scale": 0}}, "scale"),
        ({"video": {"pth": "v.mp4"}}, "Did you mean 'path'"),
        ({"folder": {}}, "path"),
    ],
)
def test_bad_options_of_observers(observers: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        streamt1.wrap(ToyPipeline(), {"extends": "plain", "observers": observers})


def test_a_plain_dataclass_may_observe_and_its_failure_at_the_end_is_named(tmp_path: Path) -> None:
    from dataclasses import dataclass

    @dataclass
    class Broken:
        size: int = 1

        @hookimpl
        def streamt1_run_finished(self) -> None:
            raise ValueError("oh")

    with pytest.raises(PluginError, match="'broken' at the end of the run failed: ValueError: oh"):
        run({"broken": Broken(), "folder": Folder(str(tmp_path / "o"))})
    assert (tmp_path / "o" / "summary.json").exists()
