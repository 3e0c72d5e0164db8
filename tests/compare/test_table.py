"""The figures of a comparison, and those of the committed results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamt1_plugins.compare import table
from streamt1_plugins.compare.run import RESULTS, read
from tests.compare.examples import row

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"


@pytest.mark.parametrize("folder", sorted(path.parent for path in EVIDENCE.rglob(RESULTS)), ids=lambda path: path.name)
def test_the_committed_tables_are_those_of_the_committed_rows(folder: Path) -> None:
    found = table.summary(read(folder))
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8")) == json.loads(json.dumps(found))
    assert table.markdown(found) == (folder / "summary.md").read_text(encoding="utf-8")
    pages = "".join(
        page.read_text(encoding="utf-8") for page in [*EVIDENCE.glob("*.md"), *EVIDENCE.parent.glob("*.md")]
    )
    assert f"{folder.relative_to(EVIDENCE)}/summary.json" in pages


def test_gains_are_paired_with_the_first_recipe_of_the_rows() -> None:
    rows = [row("plain", p, 0.5) for p in "ab"] + [row("beam", "a", 0.75, forwards=8), row("beam", "c", 0.0)]
    found = table.summary(rows)
    assert (found["base"], found["prompts"], found["seeds"]) == ("plain", 3, [0])
    beam = found["recipes"]["beam"]
    assert beam["metrics"]["score"]["gain"] == {"mean": 0.25, "low": 0.25, "high": 0.25, "prompts": 1}
    assert beam["metrics"]["score"]["wins"] == {"better": 1, "equal": 0, "worse": 0}
    assert beam["cost"]["forwards"] == 6
    text = table.markdown(found)
    assert "| beam | +0.250 [+0.250, +0.250] | 1 / 0 / 0 | 0.375 |" in text
    assert "| plain |  |  | 0.500 |" in text


def test_a_metric_that_no_row_of_a_recipe_has_leaves_its_cells_empty() -> None:
    found = table.summary([row("plain", "a", None), row("beam", "a", 0.5)])
    assert found["recipes"]["plain"]["metrics"]["score"] is None
    assert found["recipes"]["beam"]["metrics"]["score"]["gain"] is None
    assert "| plain |  |  |  |" in table.markdown(found)


def test_circular_recipes_are_marked() -> None:
    text = table.markdown(table.summary([row("plain", "a", 0.5), row("beam", "a", 0.6, circular=True)]))
    assert "| beam (circular) |" in text
    assert "| plain |" in text
    assert text.rstrip().endswith("do not measure the quality of its videos.")


def test_the_cost_has_the_slow_videos_and_the_seconds_of_all_cores() -> None:
    rows = [row("plain", str(i), 0.5) | {"seconds": float(i)} for i in range(21)]
    cost = table.summary(rows)["recipes"]["plain"]["cost"]
    assert (cost["seconds"], cost["p95_seconds"]) == (10.0, 19.0)
    assert "cpu_seconds" not in cost  # rows of older versions
    rows += [row("beam", "a", 0.5) | {"cpu_seconds": 2.5}]
    text = table.markdown(table.summary(rows))
    assert "| seconds | p95 seconds | reward seconds | cpu seconds |" in text
    assert "| plain | 4 | 4 | 12 | 0 | 10 | 19 | 0 |  |" in text
    assert "| beam | 4 | 4 | 12 | 0 | 0.5 | 0.5 | 0 | 2.5 |" in text
