"""What a comparison was made with."""

from __future__ import annotations

import json
from pathlib import Path

from streamt1_plugins.compare import conditions
from streamt1_plugins.compare.comparison import CONDITIONS
from streamt1_plugins.compare.run import read, run
from streamt1_plugins.runs.events import versions
from tests.compare.examples import comparison


def test_model_length_device_judge_and_versions_are_shown(tmp_path: Path) -> None:
    list(run(comparison(call={"chunks": 2}), tmp_path))
    found = conditions.facts(conditions.read(tmp_path), read(tmp_path))
    assert (found["Model"], found["Adapter"], found["Judge"], found["Device"]) == ("toy", "toy", "short-only", "cpu")
    assert found["Videos"] == "6 frames of 2 x 2 at 8 per second: 750 ms"
    assert found["Arguments"] == "chunks = 2"
    assert found["Versions"] == ", ".join(f"{name} {version}" for name, version in versions().items())


def test_recipes_are_shown_by_the_keys_that_differ_from_the_first(tmp_path: Path) -> None:
    comparison().record_to(tmp_path)
    (first, _, none), (label, description, keys) = conditions.recipes(conditions.read(tmp_path), ["plain", "beam"])
    assert (first, none, label) == ("plain", {}, "beam")
    assert description == "beam search without propagation and sinking"
    assert keys["search.candidates"] == ("2", "1")
    assert "seed" not in keys


def test_versions_of_all_calls_are_listed_once(tmp_path: Path) -> None:
    comparison().record_to(tmp_path)
    recorded = json.loads((tmp_path / CONDITIONS).read_text())
    recorded["made_with"]["versions"] = [{"torch": "1.0"}]
    (tmp_path / CONDITIONS).write_text(json.dumps(recorded))
    comparison().record_to(tmp_path)
    comparison().record_to(tmp_path)
    assert conditions.read(tmp_path)["made_with"]["versions"] == [{"torch": "1.0"}, versions()]


def test_folders_of_earlier_versions_and_damaged_ones_are_shown_as_far_as_they_go(tmp_path: Path) -> None:
    assert conditions.read(tmp_path) == {}
    (tmp_path / CONDITIONS).write_text("[]")
    assert conditions.facts(conditions.read(tmp_path), [{"judge": {}}]) == {}
    assert conditions.facts({"judge": "j", "model": None, "call": {}}, []) == {"Judge": "j"}
    assert conditions.recipes({}, ["plain"]) == []
