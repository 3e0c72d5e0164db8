"""What the page shows of scores: candidates without one have what was measured, colors compare a chunk's candidates."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from streamt1_plugins.api.tree import Tree
from streamt1_plugins.api.types import EARLY, Node, Reading
from streamt1_plugins.runs.recorded import RecordedRun
from streamt1_plugins.runs.report import scores
from tests.runs.shared import recorded


def node(chunk: int, ordinal: int, **fields: object) -> Node:
    reading = {"long": {"bright": Reading(0.5, 1.0)}}
    return Node(**{"chunk": chunk, "ordinal": ordinal, "parent": None, "seed": 1, "readings": reading, **fields})


def tree(*nodes: Node) -> Tree:
    return Tree({each.id: each for each in nodes})


def test_a_candidate_without_a_score_has_what_its_preview_or_its_stage_measured() -> None:
    nodes = tree(
        node(0, 0, score=0.7, long=0.6, short=0.8),
        node(0, 1, stage=EARLY, long=0.4, short=0.3),
        node(0, 2, stage=1, short=0.2),
        node(0, 3, readings={}),
    )
    shown = scores.shown(nodes, scores.scale(nodes))
    assert [(each.value, each.source) for each in shown.values()][:3] == [(0.7, "score"), (0.4, "long"), (0.2, "short")]
    assert math.isnan(shown["000.03"].value)
    assert [each.tone is None for each in shown.values()] == [False, True, True, True]


def test_colors_compare_the_candidates_of_a_chunk_whatever_its_level() -> None:
    levels = {0: 2.0, 1: -5.0, 2: 0.0}
    found = scores.scale(
        tree(
            *(
                node(c, i, score=level + (i - 1) * (0.5 if c == 2 else 1))
                for c, level in levels.items()
                for i in range(3)
            )
        )
    )
    last = scores.TONES - 1
    assert found.reach == pytest.approx(1.0)
    for chunk in (0, 1):
        assert [found.tones[f"00{chunk}.0{i}"] for i in range(3)] == [0, last // 2, last]
    assert [found.tones[f"002.0{i}"] for i in range(3)] == [last // 4, last // 2, 3 * last // 4]


def test_one_outlier_does_not_make_all_others_alike() -> None:
    found = scores.scale(
        tree(*(node(0, i, score=float(i % 2)) for i in range(40)), node(0, 40, score=1000.0), node(1, 0))
    )
    assert found.reach < 100


def test_equal_scores_have_the_middle_color() -> None:
    found = scores.scale(tree(node(0, 0, score=1.0), node(0, 1, score=1.0)))
    assert set(found.tones.values()) == {scores.TONES // 2}


@pytest.mark.parametrize(
    ("calibration", "words", "zero"),
    [
        ("none", "raw readings", False),
        ("running", "0 is the mean of all readings up to that chunk", True),
        ("{mean: 0.4, std: 0.1}", "`mean` and `std` of the recipe", True),
        ("group", "standardised within each chunk", True),
        ("rank", "share of a chunk's candidates", False),
    ],
)
def test_the_page_explains_what_a_score_is(tmp_path: Path, calibration: str, words: str, zero: bool) -> None:
    part = f"{{bright: {{calibration: {calibration}}}}}"
    recorded(tmp_path, f"rewards.short={part}", f"rewards.long={part}", "memory.name=fixed")
    recipe = RecordedRun.read(tmp_path).recipe
    assert words in scores.meaning(recipe)
    assert scores.is_standardised(recipe) is zero
    assert words.replace("'", "&#39;") in (tmp_path / "report.html").read_text()


def test_scales_that_differ_are_listed(tmp_path: Path) -> None:
    short, long = "{bright: {}, scripted: {weight: 0}}", "{bright: {calibration: running}}"
    recorded(tmp_path, f"rewards.short={short}", f"rewards.long={long}")
    found = scores.meaning(RecordedRun.read(tmp_path).recipe)
    assert ": bright, short (raw), bright, long (standardised over the run)." in found


def test_a_reward_that_was_left_out_is_listed_without_a_reading(tmp_path: Path) -> None:
    part = "{bright: {}, picky: {on_error: skip, options: {how: raise, chunk: 2}}}"
    tree = recorded(tmp_path, f"rewards.short={part}").tree
    recipe = RecordedRun.read(tmp_path).recipe
    assert scores.readings(recipe, tree)[:2] == [("short", "bright"), ("short", "picky")]
    page = (tmp_path / "report.html").read_text()
    assert page.count("no reading") == len(tree.chunk(2))


def test_the_raw_curve_leaves_previews_out() -> None:
    value = scores.raw("long", "bright")
    assert value(node(0, 0)) == 0.5
    assert math.isnan(value(node(0, 1, stage=EARLY)))
    assert math.isnan(scores.raw("short", "bright")(node(0, 0)))
