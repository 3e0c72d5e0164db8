"""Interrupted runs resume as if nothing had happened, whenever they were killed."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.config.load import load
from streamt1_plugins.errors import FolderInUseError, InputError, OutputError
from streamt1_plugins.replay import branch
from streamt1_plugins.resuming import open_interrupted, placed
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.files import to_json
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.runs.report import write_page
from tests.runs.shared import rewrite
from tests.toy import ToyPipeline

CHUNKS = 8
RECIPES = ("stream-t1", "best-of-n", "beam", "plain", "stream-t1-paper", "smc", "diverse", "funnel", "random-pick")


def wrapped(folder: Path, *overrides: str, recipe: str = "stream-t1", **more: object) -> streamt1.StreamPipeline:
    observers = {**record_to(folder), **more}
    return streamt1.wrap(ToyPipeline(), recipe, overrides=("seed=42", *overrides), observers=observers)


def plain(tree: dict[str, Any]) -> dict[str, Any]:
    """Without times."""
    return {**tree, "nodes": [{**node, "seconds": None} for node in tree["nodes"]]}


class StopAfter:
    """Breaks the run, as a Ctrl-C would, when this chunk was committed."""

    def __init__(self, chunk: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.chunk, self.error = chunk, error

    @streamt1.hookimpl(tryfirst=True)
    def streamt1_chunk_selected(self, chunk: Any) -> None:
        if chunk.index == self.chunk:
            raise self.error


class Slow:
    """Gives a run a length in which it can be killed."""

    @streamt1.hookimpl
    def streamt1_candidate_scored(self) -> None:
        time.sleep(0.002)


@pytest.mark.parametrize("stop", [0, 3, CHUNKS - 1])
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_interrupted_run_resumes_to_the_same_tree_and_video(tmp_path: Path, recipe: str, stop: int) -> None:
    full = wrapped(tmp_path / "full", recipe=recipe)
    video = full("a prompt", chunks=CHUNKS)
    with pytest.raises(KeyboardInterrupt):
        wrapped(tmp_path / "cut", recipe=recipe, stop=StopAfter(stop))("a prompt", chunks=CHUNKS)
    again = open_interrupted(tmp_path / "cut", ToyPipeline())
    assert again.last_run.beams[0].history.index == stop + 1
    assert torch.equal(again.complete(again.last_run), video)
    assert plain(again.tree.to_dict()) == plain(full.tree.to_dict())
    assert plain(journal.tree_of(journal.read(tmp_path / "cut")).to_dict()) == plain(full.tree.to_dict())
    assert (tmp_path / "cut" / "video.mp4").read_bytes() == (tmp_path / "full" / "video.mp4").read_bytes()


def test_resuming_a_finished_run_gives_its_video_again(tmp_path: Path) -> None:
    video = wrapped(tmp_path)("a prompt")
    assert torch.equal(streamt1.resume(tmp_path, ToyPipeline()), video)


def test_a_user_seeded_plain_run_resumes_in_the_callers_noise_stream(tmp_path: Path) -> None:
    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(9)

    video = wrapped(tmp_path / "full", recipe="plain")("a prompt", generator=generator())
    with pytest.raises(KeyboardInterrupt):
        wrapped(tmp_path / "cut", recipe="plain", stop=StopAfter(2))("a prompt", generator=generator())
    assert torch.equal(streamt1.resume(tmp_path / "cut", ToyPipeline()), video)


def in_child(work: Callable[[], object]) -> int:
    """Fork, so that the child needs no second to import torch; returns its process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def kill_after(child: int, seconds: float) -> None:
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def has_begun(folder: Path) -> bool:
    path = folder / journal.JOURNAL
    return path.exists() and b"\n" in path.read_bytes()


class StandStillIn:
    """Stands still in this chunk, between two of its candidates, so that the run is killed there or before."""

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk

    @streamt1.hookimpl
    def streamt1_candidate_scored(self, chunk: Any, candidate: Any) -> None:
        if chunk.index == self.chunk and candidate.ordinal == 1:
            time.sleep(600)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_twenty_kills_at_random_moments_and_every_run_ends_the_same(tmp_path: Path) -> None:
    def run(folder: Path, **more: object) -> streamt1.StreamPipeline:
        pipe = wrapped(folder, "search.candidates=3", slow=Slow(), **more)
        pipe.video = pipe("a prompt", chunks=CHUNKS)
        return pipe

    begin = time.perf_counter()
    full = run(tmp_path / "full")
    a_chunk = (time.perf_counter() - begin) / CHUNKS
    chance, stops = random.Random(0), []
    for kill in range(20):
        folder, least = tmp_path / f"killed-{kill}", kill % (CHUNKS - 1)
        wait = StandStillIn(least + 2)  # however late this process comes to kill it
        child = in_child(lambda folder=folder, wait=wait: run(folder, wait=wait))
        while not has_begun(folder) or journal.chunks_done(journal.read(folder)) < least:
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the run ended before it was killed"
            time.sleep(0.002)
        kill_after(child, chance.uniform(0, 2 * a_chunk))
        stops.append(journal.chunks_done(journal.read(folder)))
        video = streamt1.resume(folder, ToyPipeline())
        assert torch.equal(video, full.video), f"killed after chunk {stops[-1]}"
        found = journal.tree_of(journal.read(folder)).to_dict()
        assert plain(found) == plain(full.tree.to_dict()), f"killed after chunk {stops[-1]}"
    assert len(set(stops)) > 3, f"the kills did not spread over the run: {stops}"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_again_and_again_still_ends_the_same(tmp_path: Path) -> None:
    def run(folder: Path) -> Any:
        return wrapped(folder, slow=Slow())("a prompt", chunks=CHUNKS)

    def resume() -> None:
        streamt1.resume(tmp_path / "cut", ToyPipeline(), observers={"slow": Slow()})

    video = run(tmp_path / "full")
    child = in_child(lambda: run(tmp_path / "cut"))
    while not has_begun(tmp_path / "cut"):
        time.sleep(0.005)
    for _ in range(6):
        kill_after(child, 0.08)
        child = in_child(resume)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(streamt1.resume(tmp_path / "cut", ToyPipeline()), video)


def test_an_interrupted_run_reports_how_to_resume_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        wrapped(tmp_path, stop=StopAfter(1))("a prompt")
    assert f'Stopped after 2 of 4 chunks. Resume with: streamt1_plugins.resume("{tmp_path}", pipe)' in caplog.text
    assert journal.read(tmp_path)[-1]["error"] == "KeyboardInterrupt"


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        streamt1.resume(tmp_path)


def test_a_pipeline_loaded_elsewhere_is_asked_for(tmp_path: Path) -> None:
    wrapped(tmp_path)("a prompt")
    with pytest.raises(InputError, match="Pass it in Python"):
        streamt1.resume(tmp_path)


def test_arguments_a_file_cannot_hold_are_asked_for(tmp_path: Path) -> None:
    class Odd:
        pass

    wrapped(tmp_path)("a prompt", extra=Odd())
    with pytest.raises(InputError, match="pass extra again"):
        streamt1.resume(tmp_path, ToyPipeline())
    streamt1.resume(tmp_path, ToyPipeline(), extra=Odd())


def test_other_versions_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wrapped(tmp_path)("a prompt")
    path = tmp_path / journal.JOURNAL
    path.write_text(path.read_text().replace('"torch": "', '"torch": "0.0.0-', 1))
    streamt1.resume(tmp_path, ToyPipeline())
    assert "torch 0.0.0-" in caplog.text


def test_a_resumed_run_continues_its_wandb_run_where_the_folder_is_now(tmp_path: Path) -> None:
    recipe = load("plain", ["observers={wandb: {folder: old/place}}"])
    assert placed(recipe, tmp_path, append=True).observers == {"wandb": {"folder": str(tmp_path), "append": True}}
    again = placed(recipe, tmp_path, append=True)
    assert placed(again, tmp_path).observers == {"wandb": {"folder": str(tmp_path), "append": False}}


def test_a_resumed_run_keeps_the_recipe_it_was_started_with(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        wrapped(tmp_path, stop=StopAfter(1))("a prompt")
    before = (tmp_path / "recipe.yaml").read_bytes()
    streamt1.resume(tmp_path, ToyPipeline())
    assert (tmp_path / "recipe.yaml").read_bytes() == before


def interrupted(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        wrapped(folder, stop=StopAfter(1))("a prompt")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("top_k: 2", "top_k: 3", r"search\.top_k = 3, recorded as 2"),
        ("seed: 42", "seed: 7", r"seed = 7, recorded as 42"),
        ("search:", "search: [", r"recipe\.yaml"),
    ],
)
def test_an_edited_recipe_is_neither_ignored_nor_overwritten(tmp_path: Path, old: str, new: str, key: str) -> None:
    interrupted(tmp_path)
    path = tmp_path / "recipe.yaml"
    edited = path.read_text().replace(old, new)
    assert edited != path.read_text()
    path.write_text(edited)
    with pytest.raises(InputError, match=rf"(?s)recipe\.yaml was edited: .*{key}.*streamt1_plugins\.wrap\(pipe, "):
        streamt1.resume(tmp_path, ToyPipeline())
    assert path.read_text() == edited
    path.unlink()
    streamt1.resume(tmp_path, ToyPipeline())
    assert path.read_text() == edited.replace(new, old)


def test_an_edit_that_changes_no_result_is_named_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(edited := path.read_text().replace("timeout: 600.0", "timeout: 10.0"))
    streamt1.resume(tmp_path, ToyPipeline())
    assert "parallel.timeout = 10.0, recorded as 600.0" in caplog.text
    assert path.read_text() == edited


def test_two_resumes_of_one_run_end_in_one_whole_record(tmp_path: Path) -> None:
    interrupted(tmp_path)
    first, second = (open_interrupted(tmp_path, ToyPipeline()) for _ in range(2))
    video = first.complete(first.last_run)
    record, file = RecordedRun.read(tmp_path), (tmp_path / "video.mp4").read_bytes()
    with pytest.raises(OutputError, match=r"has continued the run in .* meanwhile: resume it again"):
        second.complete(second.last_run)
    assert RecordedRun.read(tmp_path).events == record.events
    assert (tmp_path / "video.mp4").read_bytes() == file
    assert torch.equal(streamt1.resume(tmp_path, ToyPipeline()), video)


def test_a_run_that_is_being_resumed_is_read_and_not_resumed(tmp_path: Path) -> None:
    class Second:
        """Comes while the first one is at work."""

        @streamt1.hookimpl(trylast=True)
        def streamt1_chunk_selected(self) -> None:
            with pytest.raises(FolderInUseError, match="is writing to the run folder"):
                streamt1.resume(tmp_path, ToyPipeline())
            with pytest.raises(FolderInUseError, match="is writing to the run folder"):
                branch(tmp_path, "000.00", tmp_path, ToyPipeline())
            self.seen = len(RecordedRun.read(tmp_path).tree())
            write_page(tmp_path, tmp_path / "meanwhile.html")

    interrupted(tmp_path)
    second = Second()
    streamt1.resume(tmp_path, ToyPipeline(), observers={"second": second})
    assert second.seen == 16
    assert RecordedRun.read(tmp_path).damage == []


def test_a_record_of_another_length_than_its_arguments_make_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    rewrite(tmp_path, lambda events: events[0].update(chunks=90_000))
    with pytest.raises(InputError, match="has a video of 90000 chunks, and its arguments make one of 4"):
        streamt1.resume(tmp_path, ToyPipeline())
    rewrite(tmp_path, lambda events: events[0].update(chunks=10**19))
    with pytest.raises(InputError, match=r"line 1: chunks = 10000000000000000000: .*less than or equal to 100000"):
        streamt1.resume(tmp_path, ToyPipeline())


def test_the_summary_of_a_resumed_run_counts_both_parts(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        wrapped(tmp_path, stop=StopAfter(1))("a prompt")
    streamt1.resume(tmp_path, ToyPipeline())
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found == json.loads(to_json(RecordedRun.read(tmp_path).summary())) | {"seconds": found["seconds"]}
    assert (found["chunks"], found["error"]) == ({"done": 4, "of": 4}, None)
    assert found["cost"]["candidates"] == 16


def test_cost_counts_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        wrapped(tmp_path, stop=StopAfter(2))("a prompt")
    again = open_interrupted(tmp_path, ToyPipeline())
    again.complete(again.last_run)
    assert again.last_run.cost.candidates == 16
    assert RecordedRun.read(tmp_path).cost(4).candidates == 16


def test_options_of_recording_observers_act_again_and_their_places_are_the_folder(tmp_path: Path) -> None:
    named = {"video": {"crf": 51}, "journal": {"path": "old/place"}, "folder": {"path": "old", "append": True}}
    placed_again = placed(load({"extends": "plain", "observers": named}), tmp_path, append=True)
    assert placed_again.observers == {"video": {"crf": 51}, "journal": {}, "folder": {}}
    video = {"video": {"path": "kept.mp4"}}
    assert placed(load({"extends": "plain", "observers": video}), tmp_path, append=True).observers == video
    assert placed(load({"extends": "plain", "observers": video}), tmp_path).observers == {"video": {}}
    recipe = {"extends": "plain", "observers": {"video": {"crf": 51}}}
    for name, given in (("o", recipe), ("fine", "plain")):
        streamt1.wrap(ToyPipeline(), given, observers=record_to(tmp_path / name))("a prompt")
    for name in ("o", "fine"):
        (tmp_path / name / "video.mp4").unlink()
        streamt1.resume(tmp_path / name, ToyPipeline())
    assert (tmp_path / "o" / "video.mp4").stat().st_size < (tmp_path / "fine" / "video.mp4").stat().st_size
