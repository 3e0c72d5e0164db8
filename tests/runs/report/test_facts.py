"""The numbers of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.replay import branch
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.observers.record import record_to
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.runs.report import facts, write_page
from tests.runs.shared import recorded, rewrite
from tests.toy import ToyPipeline


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "40 ms"),
        (0.9999, "1.0 s"),
        (59.4, "59.4 s"),
        (59.97, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7440, "2 h 04 min"),
    ],
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert facts.duration(seconds) == text


@pytest.mark.parametrize(
    ("time", "text"),
    [
        ("2026-03-01T14:07:01.123+00:00", "2026-03-01 14:07:01 UTC"),
        ("2026-03-01T14:07:01+02:00", "2026-03-01 12:07:01 UTC"),
        ("yesterday", "yesterday"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_times_have_their_zone(time: str, text: str) -> None:
    assert facts.moment(time) == text


@pytest.mark.parametrize(
    ("place", "text"), [(0, "1st"), (1, "2nd"), (2, "3rd"), (3, "4th"), (10, "11th"), (20, "21st")]
)
def test_ranks_are_words(place: int, text: str) -> None:
    assert facts.ordinal(place) == text


def counts(folder: Path) -> dict[str, str]:
    run = RecordedRun.read(folder)
    return dict(facts.costs(run, run.tree())["counts"])


def test_candidates_are_counted_as_candidates_and_readings_as_readings(tmp_path: Path) -> None:
    recorded(tmp_path)
    found = counts(tmp_path)
    assert found["Candidates with a reading"] == "16 of 16"
    assert found["Readings of rewards"] == "34"  # two rewards for each, and the whole videos of two survivors


def test_a_run_without_rewards_has_no_counts_of_them(tmp_path: Path) -> None:
    streamt1.wrap(ToyPipeline(), "plain", observers=record_to(tmp_path))("a prompt")
    assert set(counts(tmp_path)) == {"Candidates generated", "Forward passes", "Latent frames decoded"}


def test_the_candidates_of_a_branched_run_add_up(tmp_path: Path) -> None:
    tree = recorded(tmp_path / "run", chunks=4).tree
    picked = next(node.id for node in tree.chunk(1) if node.fate == "pruned")
    pipe = branch(tmp_path / "run", picked, tmp_path / "mine", ToyPipeline())
    pipe.complete(pipe.last_run)
    run = RecordedRun.read(tmp_path / "mine")
    tiles = {label: (value, remark) for label, value, remark in facts.tiles(run, run.tree())}
    new = len(run.tree()) - 8
    assert tiles["Candidates"] == (str(8 + new), "2 to 4 per chunk, 8 of the run it continues")
    assert run.cost().candidates == new + 2
    assert (
        f"{new} new candidates, and the path to {picked} made again (2). The other 8"
        in facts.costs(run, run.tree())["remark"]
    )


def test_what_a_killed_run_does_not_count_is_said(tmp_path: Path) -> None:
    recorded(tmp_path)
    path = tmp_path / journal.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: 1 + 5 + 3]))  # the start, a whole chunk and three candidates
    run = RecordedRun.read(tmp_path)
    assert "3 candidates of chunk 1 are not included" in facts.costs(run, run.tree())["remark"]


def test_the_recipe_has_the_arguments_of_the_call(tmp_path: Path) -> None:
    recorded(tmp_path, "adapter.gain=2.0", chunks=5, fail_at=None)

    def longer(events: list[dict[str, Any]]) -> None:
        events[0]["call"] |= {"gain": 3.0, "decode": None, "name": "other"}

    rewrite(tmp_path, longer)
    run = RecordedRun.read(tmp_path)
    yaml, replaced = facts.recipe_as_run(run)
    assert "gain: 3.0" in yaml
    assert "gain: 2.0" not in yaml
    assert "decode: carried" in yaml
    assert replaced == ["gain (2.0 in the recipe)"]
    assert ("chunks", "5") in facts.arguments(run.start)
    page = write_page(tmp_path).read_text()
    assert "gain: 3.0" in page
    assert "gain (2.0 in the recipe)" in page


def test_arguments_that_were_not_recorded_are_named_and_long_ones_are_cut(tmp_path: Path) -> None:
    recorded(tmp_path, secret=torch.zeros(1), listed=list(range(1000)))
    found = dict(facts.arguments(RecordedRun.read(tmp_path).start))
    assert found["secret"] == "not recorded"
    assert len(found["listed"]) == facts.LONGEST + 1


def test_a_resumed_run_lists_when_it_was_resumed(tmp_path: Path) -> None:
    recorded(tmp_path)

    def resumed(events: list[dict[str, Any]]) -> None:
        place = {name: events[0][name] for name in ("device", "device_name", "versions")}
        events[6:] = [{"event": "resumed", "time": "2026-03-01T10:00:00+00:00", "chunk": 1, **place}]

    rewrite(tmp_path, resumed)
    found = {label: text + time for label, text, time in facts.record(RecordedRun.read(tmp_path))}
    assert found["Resumed"] == "chunk 1, 2026-03-01 10:00:00 UTC"
    assert "Ended" not in found
