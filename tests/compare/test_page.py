"""The page of a comparison."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from streamt1_plugins.compare.page import render, signed
from streamt1_plugins.compare.run import read, run
from streamt1_plugins.errors import PluginError
from tests.compare.examples import NASTY, comparison, remove_matplotlib, row


def test_the_page_holds_the_strips_of_its_pairs(tmp_path: Path) -> None:
    list(run(comparison(), tmp_path))
    rows = read(tmp_path)
    names = [each["strip"] for each in rows]
    assert len(set(names)) == 4
    html = render(rows, tmp_path, "short-only")
    assert html.count("data:image/jpeg;base64,") == 4
    assert "no pictures kept" not in html
    (tmp_path / names[0]).unlink()
    html = render(rows, tmp_path, "short-only")
    assert (html.count("data:image/jpeg;base64,"), html.count("no pictures kept")) == (3, 1)


def test_the_page_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    rows = [row(label, p, 0.5, chunks=(0.5, 0.6)) for label in ("plain", "beam") for p in "ab"]
    html = render(rows, tmp_path, "judge")
    found = re.findall(r"""(?:src|href)=["']?([^"'>]*)|url\(([^)]*)\)|@import ([^;]*)""", html)
    assert {address[:5] for each in found for address in each if address and address[0] != "#"} == {"data:"}


def test_strips_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    rows = [row("plain", "a", 0.5, strip="../secret"), row("beam", "a", 0.6, strip="../secret")]
    assert "data:image" not in render(rows, tmp_path / "out", "judge")


def test_links_out_of_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    rows = [row(label, "a", score, strip="strips/s.jpg") for label, score in (("plain", 0.5), ("beam", 0.6))]
    (tmp_path / "out" / "strips").mkdir(parents=True)
    (tmp_path / "out" / "strips" / "s.jpg").symlink_to(tmp_path / "secret")
    assert "data:image" not in render(rows, tmp_path / "out", "judge")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "strips").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "s.jpg").write_text("secret")
    assert "data:image" not in render(rows, tmp_path / "other", "judge")


def test_nothing_that_was_typed_can_run_in_the_page(tmp_path: Path) -> None:
    rows = [row(label, NASTY, score, chunks=(0.5, score)) for label, score in (("plain", 0.5), (NASTY, 0.6))]
    html = render(rows, tmp_path, NASTY, [NASTY])
    assert NASTY.partition("{{")[0] not in html
    assert "<img" not in html
    assert html.count("<script>") == 1
    assert html.count("{{ 7 * 7 }}") >= 6  # the prompt, the recipe, the judge, the note, a tooltip in each plot


def test_a_circular_recipe_has_its_badge_in_every_table(tmp_path: Path) -> None:
    rows = [row("plain", "a", 0.5, chunks=(1, 0)), row("beam", "a", 0.6, chunks=(1, 0), circular=True)]
    html = render(rows, tmp_path, "bright")
    assert html.count('beam<span class="badge">circular</span>') == 3  # result, drift, all metrics
    assert "plain<span" not in html
    assert "beam selects on" in " ".join(re.sub(r"<[^>]*>", "", html).split())
    assert "circular" not in re.sub(r"<style>.*</style>", "", render([row("plain", "a", 0.5)], tmp_path, "j"))


def test_a_page_of_one_recipe_of_lone_surrogates_and_of_no_scores(tmp_path: Path) -> None:
    html = render([row("plain", "a \udce9", None)], tmp_path, "judge")
    assert html.encode()
    assert "<h1>plain</h1>" in html
    assert "<svg" not in html


def test_differences_carry_a_sign_and_zero_no_minus() -> None:
    assert [signed(value) for value in (0.25, -0.25, -0.0001, None)] == [
        "+0.250",
        "\N{MINUS SIGN}0.250",
        "+0.000",
        "\N{EN DASH}",
    ]


def test_the_page_has_the_gain_the_losers_and_the_notes(tmp_path: Path) -> None:
    rows = [row("plain", p, 0.5, chunks=(0.5, 0.5)) for p in "ab"]
    rows += [row("beam", p, 0.25, chunks=(0.75, 0.5)) for p in "ab"]
    html = render(rows, tmp_path, "judge", ["Widened."])
    assert "<h1>beam against plain</h1>" in html
    assert "\N{MINUS SIGN}0.250" in html
    assert "No video gained." in html
    assert "Widened." in html
    assert "from chunk 0 to chunk 1" in html


def test_plots_and_legends_have_every_recipe(tmp_path: Path) -> None:
    widths = {"plain": 4, "beam@2": 8, "beam@4": 16}
    rows = [row(label, p, 0.5, chunks=(0.5, 0.6), forwards=cost) for label, cost in widths.items() for p in "ab"]
    html = render(rows, tmp_path, "judge")
    assert html.count("<svg") == 4  # two gains, two plots
    legends = [re.findall(r"<li[^>]*>([^<]*)", each) for each in re.findall(r'<ul class="legend.*?</ul>', html)]
    assert legends == [["plain", "beam"], ["plain", "beam@2", "beam@4"]]


def test_the_same_rows_give_the_same_page(tmp_path: Path) -> None:
    rows = [row(label, p, 0.5, chunks=(0.5, 0.6)) for label in ("plain", "beam") for p in "ab"]
    assert render(rows, tmp_path, "judge") == render(rows, tmp_path, "judge")


def test_a_page_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    remove_matplotlib(monkeypatch)
    with pytest.raises(PluginError, match=re.escape("needs matplotlib: pip install 'streamt1-plugins[compare]'")):
        importlib.import_module("streamt1_plugins.compare.page")


def test_videos_play_in_the_page_side_by_side_and_only_those_of_the_folder(tmp_path: Path) -> None:
    list(run(comparison(), tmp_path))
    rows = read(tmp_path)
    html = render(rows, tmp_path, "short-only")
    names = {row["video"] for row in rows}
    assert set(re.findall(r'<video (?:data-)?src="([^"]*)"', html)) == names
    assert html.count('class="both"') == html.count("<figure")
    (tmp_path / rows[0]["video"]).unlink()
    rows[1]["video"] = "../secret.mp4"
    html = render(rows, tmp_path, "short-only")
    assert set(re.findall(r'<video (?:data-)?src="([^"]*)"', html)) == {row["video"] for row in rows[2:]}
    assert "no video kept" in html


def test_the_page_shows_its_conditions_and_a_word_of_caution(tmp_path: Path) -> None:
    list(run(comparison(), tmp_path))
    text = " ".join(re.sub(r"<[^>]*>", " ", render(read(tmp_path), tmp_path, "short-only")).split())
    assert "Model toy" in text
    assert "12 frames of 2 x 2 at 8 per second: 1.5 s" in text
    assert "streamt1-plugins" in text
    assert "search.candidates 2 1" in text
    assert "Caution. 2 prompts are few" in text
    many = [row("plain", f"p{i}", 0.5) for i in range(20)]
    assert "Caution" not in render(many, tmp_path / "other", "judge")


def test_nothing_of_the_conditions_can_run_in_the_page(tmp_path: Path) -> None:
    recorded = {
        "judge": NASTY,
        "model": NASTY,
        "call": {NASTY: NASTY},
        "recipes": {"plain": {NASTY: 1}, NASTY: {"k": NASTY}},
    }
    recorded["made_with"] = {"model": NASTY, "versions": [{NASTY: NASTY}], "descriptions": {NASTY: NASTY}}
    (tmp_path / "comparison.json").write_text(json.dumps(recorded))
    rows = [row("plain", "a", 0.5), row(NASTY, "a", 0.6, video=NASTY)]
    html = render(rows, tmp_path, "judge")
    assert NASTY.partition("{{")[0] not in html
    assert html.count("<script>") == 1
    assert html.count("{{ 7 * 7 }}") >= 8


def test_an_oracle_is_marked_and_every_other_recipe_has_its_regret(tmp_path: Path) -> None:
    rows = [row("plain", p, 0.5, chunks=(1, 0)) for p in "ab"]
    rows += [row("oracle", p, 0.75, chunks=(1, 0), oracle=True) | {"cpu_seconds": 3.0} for p in "ab"]
    html = render(rows, tmp_path, "judge")
    assert html.count('oracle<span class="badge">sees the judge</span>') == 3
    assert "+0.250<small>[+0.250, +0.250]</small><small>oracle</small>" in html
    assert "all cores 3" in html
    assert "oracle picks by the judge itself" in " ".join(html.split())
    assert "regret" not in re.sub(r"<style>.*</style>", "", render([row("plain", "a", 0.5)], tmp_path, "j"))
