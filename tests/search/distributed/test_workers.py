"""Real processes: one, two, three and four of them make the same tree, journal and video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from streamt1_plugins.runs import journal
from tests.launching import WORKER, launch, without_times

SEARCHES = {
    "plain": ("recipe=plain", "seed=42"),
    "wide": ("search.candidates=3",),
    "cold": ("recipe=stream-t1-paper",),
    "best-of-n": ("recipe=best-of-n",),
    "calibrated": ("rewards.short.bright.calibration=running", "rewards.long.bright.calibration=running"),
    "cascade": ("rewards.short.picky={options: {chunk: 9}}", "rewards.long.bright.stage=2", "search.candidates=4"),
    "unlucky": ("rewards.short.picky={options: {ordinals: [1, 2]}, weight: 2}",),
    "skipped": ("rewards.short.picky={options: {how: raise}, on_error: skip}",),
    "sent-whole": ("parallel.send=decoded", "parallel.thumbnails=false"),
    "parked": ("search.offload=recompute",),
    "budget": ("width={name: budget, forwards: 50}", "adapter.prices=[4, 2]"),
    "smc": ("recipe=smc", "selection.strength=200", "rewards.short.bright.calibration=running"),
    "diverse": ("recipe=diverse", "selection.diversity=0.7", "parallel.thumbnails=false"),
    "funnel": ("recipe=funnel", "adapter.prices=[4, 2]"),
    "random": ("recipe=random-pick", "adapter.name=toy-bare"),
    "refined": ("revision={name: refine, rounds: 3}", "search.candidates=5"),
    "returning": (
        "revision={name: backtrack, attempts: 2}",
        "rewards.replace=true",
        "rewards.long={scripted: {options: {levels: [1, 0.7, 0.3], spreads: [0.1]}}}",
    ),
    "early": (
        "adapter.name=toy-steps",
        "early.steps=2",
        "parallel.thumbnails=false",
        "search.candidates=4",
        "rewards.short.bright.calibration=running",
        "rewards.long.bright.calibration=running",
    ),
}
CLOCKED = {"clock": ("width={name: budget, seconds: 0.1}",), "unseeded": ("recipe=plain",)}
"""No two of these are alike, but all processes of one are."""
WORLDS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All searches by every number of processes, one launch each."""
    folder: Path = tmp_path_factory.mktemp("made")
    for processes in WORLDS:
        searches = ("|".join((name, *rest)) for name, rest in {**SEARCHES, **CLOCKED}.items())
        found = launch(processes, WORKER, folder, *searches)
        assert found.returncode == 0, found.stderr
    return folder


def result(made: Path, name: str, processes: int, rank: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(made / f"{name}.{processes}.{rank}.pt", weights_only=False)
    return found


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("processes", WORLDS[1:])
def test_any_number_of_processes_makes_the_same_video(made: Path, name: str, processes: int) -> None:
    alone = result(made, name, 1)
    for rank in range(processes):
        one = result(made, name, processes, rank)
        assert without_times(one["tree"]) == without_times(alone["tree"])
        assert torch.equal(one["video"], alone["video"])
        assert len(one["latents"]) == len(alone["latents"])
        assert all(map(torch.equal, one["latents"], alone["latents"]))


@pytest.mark.parametrize("name", [name for name in SEARCHES if name not in ("unlucky", "skipped", "sent-whole")])
@pytest.mark.parametrize("processes", WORLDS[1:])
def test_the_journal_does_not_tell_how_many_there_were(made: Path, name: str, processes: int) -> None:
    journals = [journal.read(made / name / str(number)) for number in (1, processes)]
    assert without_times(journals[0]) == without_times(journals[1])


def test_only_the_first_process_keeps_the_run(made: Path) -> None:
    assert sorted(path.name for path in (made / "wide").iterdir()) == ["1", "2", "3", "4"]
    assert (made / "wide" / "3" / "video.mp4").read_bytes() == (made / "wide" / "1" / "video.mp4").read_bytes()


def test_every_candidate_has_its_picture_unless_the_recipe_saves_the_bytes(made: Path) -> None:
    names = [{strip.name[:6] for strip in (made / "wide" / n / "strips").iterdir()} for n in ("1", "4")]
    assert names[0] == names[1]
    assert len(list((made / "sent-whole" / "2" / "strips").iterdir())) == 8  # of 16: its own


@pytest.mark.parametrize("name", CLOCKED)
def test_all_processes_follow_one_clock_and_one_seed(made: Path, name: str) -> None:
    found = [result(made, name, 3, rank) for rank in range(3)]
    assert all(without_times(each["tree"]) == without_times(found[0]["tree"]) for each in found)
    assert all(torch.equal(each["video"], found[0]["video"]) for each in found)


def test_the_search_has_gone_back_in_every_process(made: Path) -> None:
    found = [result(made, "returning", 3, rank)["tree"]["returns"] for rank in range(3)]
    assert found == [[[2, 1], [2, 1]]] * 3


def test_candidates_are_shared_evenly(made: Path) -> None:
    generated = [[result(made, "wide", n, rank)["calls"]["generate"] for rank in range(n)] for n in (1, 2, 3)]
    assert generated == [[24], [12, 12], [8, 8, 8]]


def test_drafts_stay_where_they_were_made(made: Path) -> None:
    """Eight drafts and four of them finished in each of four chunks, each by the process that its number names."""
    alone, *shared = ([result(made, "early", n, rank)["calls"] for rank in range(n)] for n in (1, 2, 4))
    assert (alone[0]["draft"], alone[0]["finish"]) == (32, 16)
    for calls in shared:
        assert {each["draft"] for each in calls} == {32 // len(calls)}
        assert sum(each["finish"] for each in calls) == 16


def test_survivors_are_decoded_again_or_sent(made: Path) -> None:
    """The toy has four candidates and two survivors in each of four chunks."""
    decoded = [result(made, name, 2, 0)["calls"]["decode"] for name in ("calibrated", "sent-whole")]
    assert decoded[1] == 8
    assert 8 <= decoded[0] <= 16


def test_the_plain_pipeline_runs_everywhere_alike(made: Path) -> None:
    """One candidate from the pipeline's own noise stream: every process has to draw from it."""
    assert [result(made, "plain", 3, rank)["calls"]["generate"] for rank in range(3)] == [4, 4, 4]
