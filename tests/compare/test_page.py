"""Widths, forwards, drift and the page of a comparison, and all of it through the command line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from streamt1_plugins.cli import main as cli
from streamt1_plugins.compare import conditions, drift, forwards, pairs, plots, table, widths
from streamt1_plugins.compare.comparison import Comparison
from streamt1_plugins.compare.page import PAGE, render, signed
from streamt1_plugins.compare.run import HEIGHT, RESULTS, SHOWN, Pipelines, read, run
from streamt1_plugins.config import load as recipe
from streamt1_plugins.config.schema import Recipe
from streamt1_plugins.errors import InputError

PROMPTS = Path(__file__).parents[2] / "docs" / "evidence" / "prompts_5s.txt"
NASTY = """<img src=x onerror="alert(1)"><script>alert(2)</script>{{ 7 * 7 }}"""


def sized(candidates: int, top_k: int) -> Recipe:
    return recipe.load("beam", [f"search.candidates={candidates}", f"search.top_k={top_k}"])


def size(of: Recipe) -> tuple[int, int]:
    return of.search.candidates, of.search.top_k


def row(label: str, prompt: str, score: float | None, seed: int = 0, **more: Any) -> dict[str, Any]:
    """A row as `run` writes it; `chunks` are the scores of single chunks, `forwards` what the video took."""
    chunks = {f"chunk_{i:02d}": value for i, value in enumerate(more.pop("chunks", ()), start=1)}
    cost = {"candidates": 4, "latent_frames_decoded": 12, "reward_calls": 0, "seconds": {}}
    cost["forwards"] = more.pop("forwards", 4)
    return {"recipe": label, "prompt": prompt, "seed": seed, "seconds": 0.5, "cost": cost, **more} | {
        "judge": {"score": score, **chunks}
    }


# --- widths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ((2, 2), 8, (4, 2)),
        ((2, 2), 2, (2, 1)),  # two beams would leave one candidate to each
        ((2, 2), 1, (1, 1)),
        ((2, 2), 9, (9, 1)),  # two beams do not divide it
        ((2, 3), 8, (4, 2)),
        ((1, 4), 7, (1, 7)),  # whole videos stay whole videos
    ],
)
def test_a_recipe_is_resized_with_as_many_beams_as_fit(
    before: tuple[int, int], wanted: int, after: tuple[int, int]
) -> None:
    assert size(widths.resized(sized(*before), wanted)) == after
    assert widths.width(sized(*after)) == wanted


def test_every_searching_recipe_gets_every_width_and_the_plain_one_none() -> None:
    found = widths.several({"plain": recipe.load("plain"), "beam": sized(2, 2)}, [2, 4])
    assert {label: size(each) for label, each in found.items()} == {"plain": (1, 1), "beam@2": (2, 1), "beam@4": (2, 2)}


def shared_beginning(each: Recipe) -> int:
    """Ten forwards for a candidate, and ten more for a video however wide it is."""
    return 10 + 10 * widths.width(each)


def whole_videos(each: Recipe) -> int:
    return 25 * widths.width(each)


def by_kind(each: Recipe) -> int:
    return whole_videos(each) if each.search.candidates == 1 else shared_beginning(each)


def test_recipes_are_matched_to_the_forwards_of_the_most_expensive() -> None:
    recipes = {"plain": recipe.load("plain"), "whole": sized(1, 4), "chunks": sized(2, 2)}
    found = widths.matched(recipes, by_kind)
    assert list(found) == ["plain", "whole", "chunks@10"]  # 100 forwards; 8 candidates take 90, 10 take 110
    assert found["plain"] == recipes["plain"]
    assert found["whole"] == recipes["whole"]
    assert size(found["chunks@10"]) == (5, 2)


@pytest.mark.parametrize(("each", "measure"), [((2, 2), shared_beginning), ((1, 2), whole_videos), ((3, 1), by_kind)])
@pytest.mark.parametrize("budget", [60, 101, 260, 1000])
def test_a_recipe_grows_to_its_budget_or_one_candidate_more(
    each: tuple[int, int], measure: Callable[[Recipe], int], budget: int
) -> None:
    start = sized(*each)
    found = widths.grown(start, budget, measure)
    candidate = measure(found) / widths.width(found)
    assert budget - measure(widths._stepped(start, 1)) + measure(start) < measure(found) <= budget + candidate


def test_a_recipe_beyond_the_budget_is_left_alone() -> None:
    assert widths.grown(sized(2, 2), 10, shared_beginning) == sized(2, 2)


def test_a_step_that_costs_more_than_one_candidate_beyond_the_budget_is_not_taken() -> None:
    assert size(widths.grown(sized(2, 4), 91, shared_beginning)) == (2, 4)  # 90, then 130


def test_a_model_that_does_not_grow_with_the_width_ends_the_search() -> None:
    assert widths.grown(sized(2, 2), 100, lambda _: 50) == sized(2, 2)


# --- forwards --------------------------------------------------------------------------------------------------------


def comparison(**changes: Any) -> Comparison:
    recipes = {"plain": recipe.load("plain"), "beam": recipe.load("beam", ["rewards.long={bright: {}}"])}
    settings = {"recipes": recipes, "prompts": ["a", "b"], "seeds": [0], "judge": "short-only", "model": "toy"}
    return Comparison(**(settings | changes))


def test_forwards_are_counted_once_and_remembered_on_disk(tmp_path: Path) -> None:
    asked: list[Recipe] = []

    class Counting(Pipelines):
        def __call__(self, each: Recipe) -> Any:
            asked.append(each)
            return super().__call__(each)

    given, out = comparison(), tmp_path / "out"
    for _ in range(2):
        measure = forwards.measuring(given, out, Counting("toy"))
        assert [measure(given.recipes["beam"]) for _ in range(2)] == [16, 16]
    assert len(asked) == 1
    (kept,) = read(out, forwards.FORWARDS)
    assert (kept["candidates"], kept["top_k"], kept["forwards"]) == (2, 2, 16)


def test_forwards_of_another_length_are_counted_anew(tmp_path: Path) -> None:
    short = comparison(call={"chunks": 2})
    assert forwards.measuring(comparison(), tmp_path, Pipelines("toy"))(short.recipes["beam"]) == 16
    assert forwards.measuring(short, tmp_path, Pipelines("toy"))(short.recipes["beam"]) == 8


# --- drift -----------------------------------------------------------------------------------------------------------


def test_drift_is_what_is_lost_from_the_first_chunk_to_the_last() -> None:
    rows = [row("plain", p, 0.5, chunks=(0.9, 0.7, last)) for p, last in (("a", 0.5), ("b", 0.3))]
    rows += [row("beam", p, 0.5, chunks=(1.0, 0.1, 0.9)) for p in "ab"]
    found = drift.summary(rows, ["plain", "beam"])["drift"]
    assert (found["early"], found["last"]) == ("chunk_01", "chunk_03")
    plain, beam = (found["recipes"][name] for name in ("plain", "beam"))
    assert (plain["early"], plain["last"], plain["lost"]["mean"], plain["saved"]) == (0.9, 0.4, 0.5, None)
    assert (beam["lost"]["mean"], beam["saved"]["mean"]) == (0.1, 0.4)
    assert (beam["saved"]["low"], beam["saved"]["high"]) == (0.3, 0.5)


def test_the_first_chunks_of_a_long_video_are_no_measure_of_drift() -> None:
    (found,) = drift.summary([row("plain", "a", 0.5, chunks=(1, 1, 1, 0.8, 0, 0, 0, 0.6))], ["plain"]).values()
    assert (found["early"], found["last"]) == ("chunk_04", "chunk_08")
    assert found["recipes"]["plain"]["lost"]["mean"] == pytest.approx(0.2)


@pytest.mark.parametrize("chunks", [(), (0.5,)])
def test_without_chunks_there_is_no_drift(chunks: Sequence[float]) -> None:
    rows = [row("plain", "a", 0.5, chunks=chunks)]
    assert drift.summary(rows, ["plain"]) == {}
    assert plots.by_chunk(rows, ["plain"]) is None
    assert "drift" not in table.markdown(table.summary(rows))


def test_chunks_count_where_every_row_has_them_and_in_their_order() -> None:
    rows = [row("plain", "a", 0.5, chunks=range(12)), row("plain", "b", 0.5, chunks=range(10))]
    assert drift.chunks(rows) == [f"chunk_{i:02d}" for i in range(1, 11)]
    assert drift.chunks([{"judge": {"chunk_100": 0.0, "chunk_20": 0.0, "chunk_x": 0.0}}]) == ["chunk_20", "chunk_100"]


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_the_pairs_that_gained_and_lost_most() -> None:
    gains = {"a": 0.1, "b": -0.2, "c": 0.4, "d": 0.0, "e": 0.3, "f": 0.2, "g": -0.1}
    rows = [row("plain", prompt, 0.5) for prompt in [*gains, "alone", "unjudged"]]
    rows += [row("beam", prompt, 0.5 + gain, strip=f"strips/{prompt}.jpg") for prompt, gain in gains.items()]
    rows += [row("beam", "unjudged", None)]
    found = pairs.extremes(rows, "plain", "beam", "score")
    assert [pair.prompt for pair in found.best] == ["c", "e", "f"]
    assert [pair.prompt for pair in found.worst] == ["b", "g"]
    assert found.worst[0].gain == pytest.approx(-0.2)
    assert (found.best[0].base.strip, found.best[0].other.strip) == (None, "strips/c.jpg")


# --- plots -----------------------------------------------------------------------------------------------------------


def test_equal_ratios_of_forwards_are_equally_far_apart() -> None:
    found = table.summary([row(f"r{cost}", "a", 0.5, forwards=cost) for cost in (10, 40, 160)])
    plot = plots.scaling(found, "score")
    assert plot is not None
    (first, second, third), texts = [place for place, _ in plot.columns], [text for _, text in plot.columns]
    assert texts == ["10", "40", "160"]
    assert second - first == pytest.approx(third - second, abs=0.02)
    assert plots.LEFT < first < third < plots.WIDTH - plots.RIGHT


def test_points_of_the_same_cost_stand_apart_around_their_tick() -> None:
    scores = {"plain": (4, 0.5), "beam@4": (16, 0.6), "stream-t1@4": (16, 0.7), "beam@8": (32, 0.8)}
    rows = [row(label, p, score, forwards=cost) for p in "ab" for label, (cost, score) in scores.items()]
    plot = plots.scaling(table.summary(rows), "score")
    assert plot is not None
    assert [(each.name, len(each.points)) for each in plot.series] == [("plain", 1), ("beam", 2), ("stream-t1@4", 1)]
    beam, rival = plot.series[1].points[0].x, plot.series[2].points[0].x
    assert rival - beam == pytest.approx(plots.APART)
    assert (beam + rival) / 2 == pytest.approx(plot.columns[1][0], abs=0.02)
    assert [bool(each.line) for each in plot.series] == [False, True, False]


def test_ticks_are_round_and_hold_every_interval() -> None:
    for low, high in [(0.849, 0.996), (0.0, 1.0), (3.2, 741.0), (0.5, 0.5), (-0.02, 0.013), (0.9731, 0.9738)]:
        up, ticks = plots._upwards([low, high])
        places, values = [place for place, _ in ticks], [float(text) for _, text in ticks]
        assert 2 <= len(ticks) <= 10, (low, high)
        assert values[0] <= low <= high <= values[-1]
        assert len({round(b - a, 9) for a, b in pairwise(values)}) == 1  # what is written is where it stands
        assert places == sorted(places, reverse=True)
        assert (up(values[0]), up(values[-1])) == pytest.approx((plots.HEIGHT - plots.BOTTOM, plots.TOP))


def test_ticks_that_would_touch_are_left_out() -> None:
    assert plots._thinned([(0, "a"), (plots.TICK_ROOM - 1, "b"), (plots.TICK_ROOM, "c")]) == [
        (0, "a"),
        (plots.TICK_ROOM, "c"),
    ]


def test_bars_share_one_line_with_zero_on_it() -> None:
    rows = [row(label, p, value) for p in "ab" for label, value in (("plain", 0.5), ("up", 0.7), ("down", 0.4))]
    found = plots.gains(table.summary(rows), "score")
    assert list(found) == ["up", "down"]
    assert found["up"].zero == found["down"].zero
    assert found["down"].mean < found["up"].zero < found["up"].mean
    assert (found["down"].mean, found["up"].mean) == (4.0, 96.0)
    assert math.isclose((96 - found["up"].zero) / (found["up"].zero - 4), 2, abs_tol=0.01)


def test_widths_of_a_recipe_share_a_colour_and_differ_in_their_line() -> None:
    labels = ["plain", "beam@2", "beam@4", "stream-t1@2", "stream-t1@4"]
    assert plots.colours(labels) == dict(zip(labels, (0, 1, 1, 2, 2), strict=True))
    assert plots.dashes(labels) == dict(zip(labels, (0, 1, 0, 1, 0), strict=True))


def test_by_chunk_makes_room_for_intervals_only_where_they_are_drawn() -> None:
    rows = [row("plain", p, 0.5, chunks=values) for p, values in (("a", (0.2, 0.4)), ("b", (0.8, 0.6)))]
    bands, none = (plots.by_chunk(rows, ["plain"], bands=shown) for shown in (True, False))
    assert bands is not None
    assert none is not None
    assert [text for _, text in bands.columns] == ["1", "2"]
    assert float(bands.rows[0][1]) <= 0.2 < float(none.rows[0][1])
    assert bands.series[0].band.endswith("Z")


# --- page ------------------------------------------------------------------------------------------------------------


def test_the_page_holds_the_strips_of_its_pairs(tmp_path: Path) -> None:
    list(run(comparison(), tmp_path))
    rows = read(tmp_path)
    names = [each["strip"] for each in rows]
    assert len(set(names)) == 4
    for name in names:
        with Image.open(tmp_path / name) as strip:
            assert strip.format == "JPEG"
            assert strip.height <= HEIGHT
            assert strip.width == SHOWN * strip.height  # the toy's pictures are square
    html = render(rows, tmp_path, "short-only")
    assert html.count("data:image/jpeg;base64,") == 4
    assert "no pictures kept" not in html
    assert {found.partition(",")[0] for found in re.findall(r'(?:src|href)="([^"]*)', html)} == {
        "data:",
        "data:image/jpeg;base64",
    }
    (tmp_path / names[0]).unlink()
    html = render(rows, tmp_path, "short-only")
    assert (html.count("data:image/jpeg;base64,"), html.count("no pictures kept")) == (3, 1)


def test_strips_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    rows = [row("plain", "a", 0.5, strip="../secret"), row("beam", "a", 0.6, strip="../secret")]
    assert "data:image" not in render(rows, tmp_path / "out", "judge")


def test_nothing_that_was_typed_can_run_in_the_page(tmp_path: Path) -> None:
    rows = [row("plain", NASTY, 0.5), row(NASTY, NASTY, 0.6)]
    html = render(rows, tmp_path, NASTY, [NASTY])
    assert NASTY.partition("{{")[0] not in html
    assert "<img" not in html
    assert html.count("<script>") == 1
    assert html.count("{{ 7 * 7 }}") >= 4  # the prompt, the recipe, the judge, the note


def test_a_circular_recipe_wears_its_badge_everywhere(tmp_path: Path) -> None:
    rows = [row("plain", "a", 0.5, chunks=(1, 0)), row("beam", "a", 0.6, chunks=(1, 0), circular=True)]
    html = render(rows, tmp_path, "bright")
    assert html.count('beam<span class="badge">circular</span>') == 3  # result, drift, everything
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


def test_the_page_tells_the_gain_the_losers_and_the_notes(tmp_path: Path) -> None:
    rows = [row("plain", p, 0.5, chunks=(0.5, 0.5)) for p in "ab"]
    rows += [row("beam", p, 0.25, chunks=(0.75, 0.5)) for p in "ab"]
    html = render(rows, tmp_path, "judge", ["Widened."])
    assert "<h1>beam against plain</h1>" in html
    assert "\N{MINUS SIGN}0.250" in html
    assert "No video gained." in html
    assert "Widened." in html
    assert "from chunk 1 to chunk 2" in html


# --- the command -----------------------------------------------------------------------------------------------------


def compare(folder: Path, *args: str, judge: str = "short-only", model: str | None = "toy") -> Any:
    if not (folder / "prompts.txt").exists():
        (folder / "prompts.txt").write_text("a\nb\n", encoding="utf-8")
    given = ["--prompts", str(folder / "prompts.txt"), "--out", str(folder / "out"), "--judge", judge]
    return CliRunner().invoke(cli.app, ["compare", *args, *given, *(["--model", model] if model else [])])


def labels_of(folder: Path) -> dict[str, int]:
    """Candidates of a video by recipe."""
    return {each["recipe"]: each["cost"]["candidates"] for each in read(folder / "out")}


def test_several_widths_through_the_command(tmp_path: Path) -> None:
    done = compare(tmp_path, "plain", "beam", "--candidates", "4,1,2,2")
    assert done.exit_code == 0, done.output
    assert labels_of(tmp_path) == {"plain": 4, "beam@1": 4, "beam@2": 8, "beam@4": 16}
    assert "| beam@4 | " in done.stdout


def test_what_is_made_and_written_is_told(tmp_path: Path) -> None:
    done = compare(tmp_path, "plain", "beam")
    assert done.exit_code == 0, done.output
    assert "2 recipes x 2 prompts x 1 seed: 4 videos\n" in done.stderr
    assert re.search(r"^4/4  beam  0\.\d{3}  \d\.\d s  b$", done.stderr, re.MULTILINE)
    assert re.search(rf"^page    {re.escape(str(tmp_path / 'out' / PAGE))}$", done.stdout, re.MULTILINE)
    for name in (RESULTS, PAGE, "summary.json", "summary.md"):
        assert (tmp_path / "out" / name).stat().st_size
        assert name in done.stdout
    assert (tmp_path / "out" / "summary.md").read_text() in done.stdout
    again = compare(tmp_path, "plain", "beam", "--seeds", "2")
    assert "2 recipes x 2 prompts x 2 seeds: 8 videos, 4 of them there\n" in again.stderr
    assert "4/4  beam" in again.stderr


def test_matched_forwards_through_the_command(tmp_path: Path) -> None:
    wide = tmp_path / "wide.yaml"
    wide.write_text("extends: beam\nsearch: {candidates: 3, top_k: 2}\n", encoding="utf-8")
    done = compare(tmp_path, "plain", "beam", str(wide), "best-of-n", "--match", "forwards")
    assert done.exit_code == 0, done.output
    assert labels_of(tmp_path) == {"plain": 4, "beam@6": 24, "wide": 24, "best-of-n@6": 24}
    assert ": 24\n" in done.stderr
    page = (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
    assert "widened towards the forwards of the most expensive one" in page
    assert read(tmp_path / "out", forwards.FORWARDS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--match", "forwards", "--candidates", "2"], "give one of the two"),
        (["--candidates", "2,x"], "is not of the form N,N,..."),
        (["--candidates", ""], "is not of the form N,N,..."),
        (["--candidates", "0,2"], "at least one candidate"),
        (["plain"], "Two of the recipes are called 'plain'"),
        (["no-such"], "Unknown recipe 'no-such'"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(tmp_path: Path, options: list[str], message: str) -> None:
    done = compare(tmp_path, "plain", "beam", *options)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_judge_is_guessed(tmp_path: Path) -> None:
    done = compare(tmp_path, "plain", judge="short-onyl")
    assert done.exit_code == 2
    assert "Unknown reward 'short-onyl'. Did you mean 'short-only'?" in done.stderr


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"judge": "picky"}, "judge = 'short-only', and this call has 'picky'"),
        ({"call": {"chunks": 2}}, "call.chunks = None, and this call has 2"),
        ({"model": "other"}, "model = 'toy', and this call has 'other'"),
        (
            {"recipes": {"plain": recipe.load("plain", ["search.candidates=2"])}},
            "recipes.plain.search.candidates = 1, and this call has 2",
        ),
    ],
    ids=lambda each: str(each)[:20],
)
def test_a_folder_does_not_mix_rows_that_do_not_compare(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    given = {"recipes": {"plain": recipe.load("plain")}}
    conditions.keep(comparison(**given), tmp_path)
    conditions.keep(comparison(recipes={"beam": recipe.load("beam")}), tmp_path)
    conditions.keep(comparison(**given), tmp_path)
    with pytest.raises(InputError, match=re.escape(message)):
        conditions.keep(comparison(**(given | changed)), tmp_path)
    assert set(json.loads((tmp_path / conditions.CONDITIONS).read_text())["recipes"]) == {"plain", "beam"}


def test_a_file_cannot_hold_results(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("", encoding="utf-8")
    done = compare(tmp_path, "plain")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith(f"Error: {tmp_path / 'out'} cannot hold results: ")


def test_a_circular_judge_is_refused_or_marked(tmp_path: Path) -> None:
    refused = compare(tmp_path, "plain", "beam", judge="bright")  # suggested by the adapter, not named in the recipe
    assert refused.exit_code == 2
    assert "beam selects on 'bright'" in refused.stderr
    assert not (tmp_path / "out").exists()
    marked = compare(tmp_path, "plain", "beam", "--circular", judge="bright")
    assert marked.exit_code == 0, marked.output
    assert "| beam (circular) | " in marked.stdout
    assert "| plain | " in marked.stdout
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["circular"] == ["beam"]
    assert 'beam<span class="badge">' in (tmp_path / "out" / PAGE).read_text(encoding="utf-8")


def test_a_tiny_comparison_of_the_bundled_model(tmp_path: Path) -> None:
    prompts = [line for line in PROMPTS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts[:2] + prompts[-2:]), encoding="utf-8")
    done = compare(tmp_path, "plain", "stream-t1", "--num-frames", "33", judge="tinyworld-judge", model=None)
    assert done.exit_code == 0, done.output
    rows = read(tmp_path / "out")
    assert len(rows) == 8
    assert all(0 <= each["judge"]["score"] <= 1 for each in rows)
    assert all({"chunk_01", "chunk_03"} <= each["judge"].keys() for each in rows)
    costs = {each["recipe"]: (each["cost"]["candidates"], each["cost"]["forwards"]) for each in rows}
    assert costs == {"plain": (3, 26), "stream-t1": (12, 100)}  # as `recipes validate` tells
    found = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert (found["base"], found["prompts"], found["drift"]["last"]) == ("plain", 4, "chunk_03")
    assert "| stream-t1 | " in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "stream-t1 against plain" in (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
