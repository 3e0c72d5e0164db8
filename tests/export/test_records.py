"""A group as a line of the data."""

from __future__ import annotations

import json

import pytest

from streamt1_plugins.export import records
from streamt1_plugins.export.groups import groups
from streamt1_plugins.runs.recorded import RecordedRun
from tests.export.runs import recorded


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, _toy_plugin: None) -> RecordedRun:
    folder = tmp_path_factory.mktemp("runs") / "one"
    schedule = [{"chunk": 2, "prompt": "another"}]
    recorded(folder, schedule=schedule)
    return RecordedRun.read(folder)


def test_a_pair_has_the_best_and_the_worst(run: RecordedRun) -> None:
    group = next(groups(run.tree()))
    line = records.record("preferences", "one", run, group)
    assert (line["run"], line["chunk"], line["history"], line["path"]) == ("one", 0, "one/root", [])
    assert line["chosen"]["id"] == group.best.id
    assert line["rejected"]["id"] == group.worst.id
    assert line["margin"] == pytest.approx(line["chosen"]["score"] - line["rejected"]["score"])
    assert line["margin"] > 0
    assert line["chosen"]["readings"][0].keys() == {"reward", "horizon", "raw", "value"}
    assert line["chosen"]["seed"] == str(group.best.seed)
    assert records.shown("preferences", group) == (group.best, group.worst)


def test_a_group_has_all_candidates_with_advantages(run: RecordedRun) -> None:
    group = list(groups(run.tree()))[-1]
    line = records.record("groups", "one", run, group)
    assert [each["id"] for each in line["candidates"]] == [node.id for node in group.candidates]
    assert sum(each["advantage"] for each in line["candidates"]) == pytest.approx(0)
    assert line["history"] == f"one/{line['path'][-1]}"
    assert len(line["path"]) == line["chunk"]
    assert records.shown("groups", group) == group.candidates


def test_every_line_has_the_prompt_of_its_chunk(run: RecordedRun) -> None:
    found = {group.chunk: records.record("groups", "one", run, group)["prompt"] for group in groups(run.tree())}
    assert found == {0: "a prompt", 1: "a prompt", 2: "another"}


def test_lines_are_strict_json(run: RecordedRun) -> None:
    for group in groups(run.tree()):
        line = records.record("groups", "one", run, group)
        assert json.loads(json.dumps(line, allow_nan=False)) == line
