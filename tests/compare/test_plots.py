"""Plots as SVG: places, ticks, colors, tooltips."""

from __future__ import annotations

import re
import sys
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest

from streamt1_plugins.compare import plots, table
from tests.compare.examples import NASTY, row

SVG = "{http://www.w3.org/2000/svg}"


def points(svg: str) -> dict[str, tuple[float, float]]:
    """The places of the points by their tooltip."""
    groups = [each for each in ElementTree.fromstring(svg).iter(f"{SVG}g") if each.find(f"{SVG}title") is not None]
    uses = {each.findtext(f"{SVG}title", ""): next(each.iter(f"{SVG}use")) for each in groups}
    return {text: (float(use.attrib["x"]), float(use.attrib["y"])) for text, use in uses.items()}


def texts(svg: str) -> list[tuple[str, float]]:
    """The texts and how far to the right they stand."""
    found = list(ElementTree.fromstring(svg).iter(f"{SVG}text"))
    return [(each.text or "", float(each.attrib["x"])) for each in found]


def numbers(svg: str) -> list[float]:
    """The numbers along the vertical axis, upwards."""
    left = min(x for _, x in texts(svg))
    return [float(text.replace("\N{MINUS SIGN}", "-")) for text, x in texts(svg) if x == left]


def found(**means: tuple[float, float, float, float]) -> dict[str, Any]:
    """A summary of recipes with their forwards, mean, low and high."""
    recipes = {
        label: {
            "metrics": {"score": {"mean": {"mean": mean, "low": low, "high": high}, "gain": None}},
            "cost": {"forwards": forwards},
        }
        for label, (forwards, mean, low, high) in means.items()
    }
    return {"base": next(iter(recipes)), "recipes": recipes}


def test_equal_ratios_of_forwards_are_equally_far_apart() -> None:
    svg = plots.scaling(found(**{f"a@{n}": (n, 0.5, 0.4, 0.6) for n in (10, 40, 160)}), "score")
    first, second, third = (x for x, _ in points(svg).values())
    assert second - first == pytest.approx(third - second, abs=0.01)
    assert [text for text, _ in texts(svg)][:4] == ["10", "20", "50", "100"]


def test_recipes_of_the_same_cost_stand_side_by_side() -> None:
    svg = plots.scaling(found(a=(41, 0.5, 0.4, 0.6), b=(40, 0.5, 0.4, 0.6), c=(40, 0.5, 0.1, 0.9)), "score")
    (left, middle, right) = (
        points(svg)[text][0] for text in sorted(points(svg), key=lambda each: "bca".index(each[0]))
    )
    assert middle - left == pytest.approx(plots.ASIDE)
    assert right - middle > plots.ASIDE


@pytest.mark.parametrize(("low", "high"), [(46, 46), (46, 47), (26, 100), (1, 40000)])
def test_forwards_of_any_range_have_numbers(low: int, high: int) -> None:
    svg = plots.scaling(found(a=(low, 0.5, 0.4, 0.6), b=(high, 0.5, 0.4, 0.6)), "score")
    written = [text for text, _ in texts(svg)]
    assert len([float(text) for text in written[: written.index("forwards per video, logarithmic")]]) >= 2


def test_tooltips_have_the_mean_its_interval_and_the_forwards() -> None:
    svg = plots.scaling(found(plain=(46, 0.5, 0.25, 0.75)), "score")
    assert [*points(svg)] == ["plain: 0.500 [0.250, 0.750], 46 forwards"]


def test_widths_of_a_recipe_are_one_line_in_the_order_of_their_cost() -> None:
    svg = plots.scaling(found(**{"beam@8": (80, 0.7, 0.6, 0.8), "beam@2": (20, 0.5, 0.4, 0.6)}), "score")
    (left, low), (right, high) = points(svg).values()
    assert (left < right, high < low) == (True, True)
    lines = [[float(each) for each in re.findall(r"[\d.]+", path)] for path in re.findall(r'd="(M [^"]*)"', svg)]
    assert [left, low, right, high] in lines


def test_without_values_there_is_no_plot() -> None:
    rows = [row("plain", "a", None, chunks=(None, None))]
    assert plots.scaling(table.summary(rows), "score") == ""
    assert plots.by_chunk(rows, ["plain"]) == ""
    assert plots.by_chunk([row("plain", "a", 0.5, chunks=(0.5,))], ["plain"]) == ""
    assert plots.gains(table.summary(rows), "score") == {}


def test_gains_share_one_axis_with_a_line_at_zero() -> None:
    rows = [row(label, p, value) for p in "ab" for label, value in (("plain", 0.5), ("up", 0.7), ("down", 0.4))]
    drawn = plots.gains(table.summary(rows), "score")
    assert list(drawn) == ["up", "down"]
    zeros = {re.search(r'd="M (\S+) \S+\s+L \1 ', svg)[1] for svg in drawn.values()}  # type: ignore[index]
    (zero,) = map(float, zeros)
    up, down = (float(next(ElementTree.fromstring(svg).iter(f"{SVG}use")).attrib["x"]) for svg in drawn.values())
    assert (up - zero) / (zero - down) == pytest.approx(2, abs=0.01)


def test_widths_of_a_recipe_share_a_color_and_differ_in_their_line() -> None:
    labels = ["plain", "beam@2", "beam@4", "stream-t1@2", "stream-t1@4", "solo@8"]
    assert plots.groups(labels) == {
        "plain": ["plain"],
        "beam": ["beam@2", "beam@4"],
        "stream-t1": ["stream-t1@2", "stream-t1@4"],
        "solo@8": ["solo@8"],
    }
    assert plots.colours(labels) == dict(zip(labels, (0, 1, 1, 2, 2, 3), strict=True))
    assert {label: plots.dashes(labels)[label] for label in labels} == dict(
        zip(labels, (0, 1, 0, 1, 0, 0), strict=True)
    )


def test_the_first_recipe_alone_has_the_first_color() -> None:
    labels = [f"r{i}" for i in range(plots.COLOURS + 2)]
    assert [*plots.colours(labels).values()] == [0, *range(1, plots.COLOURS + 1), 1]


def test_bands_are_drawn_for_few_recipes_and_have_room_there() -> None:
    rows = [row("plain", p, 0.5, chunks=values) for p, values in (("a", (0.2, 0.4)), ("b", (0.8, 0.6)))]
    bands, none = (plots.by_chunk(rows, ["plain"] + ["other"] * more) for more in (0, plots.BANDS))
    assert ("fill-opacity: 0.13" in bands, "fill-opacity: 0.13" in none) == (True, False)
    assert numbers(bands)[-1] - numbers(bands)[0] > numbers(none)[-1] - numbers(none)[0]


def test_chunks_have_their_own_numbers_and_tooltips() -> None:
    rows = [row("plain", "a", 0.5, chunks=(0.25, 0.5, 0.75))]
    rows[0]["judge"].pop("chunk_01")
    svg = plots.by_chunk(rows, ["plain"])
    assert [text for text, _ in texts(svg)][:2] == ["1", "2"]
    assert [*points(svg)] == ["plain, chunk 1: 0.500", "plain, chunk 2: 0.750"]


def test_every_color_is_a_variable_of_the_page_and_text_stays_text() -> None:
    rows = [row(label, p, 0.5, chunks=(0.5, 0.6)) for label in ("plain", "beam") for p in "ab"]
    drawn = [plots.by_chunk(rows, ["plain", "beam"]), *plots.gains(table.summary(rows), "score").values()]
    for svg in (plots.scaling(table.summary(rows), "score"), *drawn):
        assert set(re.findall(r"(?:fill|stroke): ([^;\"]*)", svg)) <= {
            "none",
            *(f"var(--{v})" for v in plots.INKS),
        }
    assert "chunk" in [text for text, _ in texts(drawn[0])]


def test_labels_are_escaped() -> None:
    svg = plots.scaling(found(**{NASTY: (4, 0.5, 0.4, 0.6)}), "score")
    assert "<script>" not in svg
    assert [*points(svg)] == [f"{NASTY}: 0.500 [0.400, 0.600], 4 forwards"]


def test_plots_do_not_depend_on_the_settings_of_matplotlib_and_leave_them_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # its import fails
    given = found(a=(10, 0.5, 0.4, 0.6), b=(40, 0.5, 0.4, 0.6))
    expected, before = plots.scaling(given, "score"), matplotlib.rcParams.copy()
    with matplotlib.rc_context({"svg.fonttype": "path", "lines.linewidth": 9, "svg.hashsalt": None}):
        assert plots.scaling(given, "score") == expected
    assert matplotlib.rcParams.copy() == before
