"""The pages quote the committed evidence."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamt1_plugins.compare import table
from streamt1_plugins.compare.run import append, read
from streamt1_plugins.config.load import load
from streamt1_plugins.config.prompt_file import prompt_lines
from streamt1_tinyworld.world import parse, split
from tests.compare.examples import row

EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"
PAGES = ("search.md", "rewards.md")
QUOTED = (
    ("student_5s", "plain", "random-pick"),
    ("student_30s", "plain", "random-pick"),
    ("student_30s", "plain", "self"),
    ("scenes_60s", "beam", "stream-t1"),
    ("student_30s", "stream-t1", "backtrack"),
    ("student_30s", "stream-t1", "diverse"),
    ("student_30s", "stream-t1", "six"),
)
"""Folder, base and recipe of gains in the story."""


def test_the_readme_quotes_the_committed_evidence() -> None:
    readme = (EVIDENCE.parents[1] / "README.md").read_text(encoding="utf-8")
    found = table.summary(read(EVIDENCE / "student_5s"))["recipes"]
    for name in ("plain", "random-pick", "best-of-n", "beam", "stream-t1", "oracle"):
        metric = found[name]["metrics"]["score"]
        gain = "" if metric["gain"] is None else table.interval(metric["gain"])
        line = f"| `{name}` | {metric['mean']['mean']:.3f} | {gain} | {found[name]['cost']['forwards']:g} |"
        assert line in readme


def test_the_evidence_quotes_the_probe() -> None:
    text = " ".join((EVIDENCE / "teacher.md").read_text(encoding="utf-8").split())
    found = json.loads((EVIDENCE / "probe" / "summary.json").read_text(encoding="utf-8"))
    assert found["shares"]["later"]["initial"]["mean"] < 0.0001
    assert found["shares"]["first"]["initial"]["mean"] < 0.000000001
    effects = {name: each["effect"]["mean"] for name, each in found["routes"].items()}
    assert f"by {effects['ema 0.999']:.3f} of the distance between two candidates" in text
    assert f"at 0.9 it is {effects['ema 0.9']:.2f}, at 0.5 {effects['ema 0.5']:.2f}" in text
    assert f"Appending moves it by {effects['append']:.2f}" in text


def test_the_evidence_quotes_what_following_the_advice_gained_and_it_was_as_predicted() -> None:
    text = " ".join((EVIDENCE / "teacher.md").read_text(encoding="utf-8").split())
    found = json.loads((EVIDENCE / "probe" / "result.json").read_text(encoding="utf-8"))
    for name, reward in found["rewards"].items():
        assert f"| `{name}` | {' | '.join(map(interval, reward.values()))} |" in text
        assert reward["measured"]["low"] <= reward["predicted"]["mean"] <= reward["measured"]["high"]
    for gain in found["judge"].values():
        assert interval(gain) in text
    assert found["judge"]["advised over default"]["high"] >= 0


def test_the_pages_quote_the_gains_of_the_strategies() -> None:
    pages = [EVIDENCE.parents[1] / "README.md", EVIDENCE / "README.md", *map(EVIDENCE.parent.joinpath, PAGES)]
    gain = table.summary(read(EVIDENCE / "strategies_5s"))["recipes"]["self"]["metrics"]["score"]["gain"]
    for page in pages:
        assert table.interval(gain) in " ".join(page.read_text(encoding="utf-8").split()), page
    story, search = (" ".join(each.read_text(encoding="utf-8").split()) for each in pages[1:3])
    for folder, base, name in QUOTED:
        rows = sorted(read(EVIDENCE / folder), key=lambda row, base=base: row["recipe"] != base)
        assert table.interval(table.summary(rows)["recipes"][name]["metrics"]["score"]["gain"]) in story, (folder, name)
    regret = table.summary(read(EVIDENCE / "oracle_30s"))["regret"]["recipes"]["backtrack"]["regret"]
    assert all(table.interval(regret) in page for page in (story, search))
    rows = sorted(read(EVIDENCE / "strategies_5s"), key=lambda row: row["recipe"] != "stream-t1")
    assert table.interval(table.summary(rows)["recipes"]["diverse"]["metrics"]["score"]["gain"]) in search


def test_the_story_quotes_what_sinks_do_to_the_background() -> None:
    rows = sorted(read(EVIDENCE / "memory_seeds_30s"), key=lambda row: row["recipe"] != "beam")
    found = {name: each["metrics"]["background_drift"] for name, each in table.summary(rows)["recipes"].items()}
    gain, levels = found["stream-t1"]["gain"], [found[name]["mean"]["mean"] for name in ("stream-t1", "beam")]
    story = " ".join((EVIDENCE / "README.md").read_text(encoding="utf-8").split())
    quoted = f"{gain['mean']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}] with two seeds"
    assert "{:.1f} levels of 255 and not {:.1f}: ".format(*levels) + quoted in story


def test_the_evidence_quotes_the_probe_of_the_student() -> None:
    text = " ".join((EVIDENCE / "README.md").read_text(encoding="utf-8").split())
    found = json.loads((EVIDENCE / "probe_student" / "summary.json").read_text(encoding="utf-8"))
    shares = {when: found["shares"][when]["initial"]["mean"] for when in ("first", "later")}
    assert (
        f"owns {shares['first']:.0%} of the variance of a first chunk and {shares['later']:.1%} of later".replace(
            "%", " %"
        )
        in text
    )
    effects = {name: f"{each['effect']['mean']:.0%}".replace("%", " %") for name, each in found["routes"].items()}
    assert f"moves the next chunk by {effects['append']} of the distance" in text
    assert f"(`replace` {effects['replace']}, `ema_pair` {effects['ema_pair']}, " in text
    result = json.loads((EVIDENCE / "probe_student" / "result.json").read_text(encoding="utf-8"))
    for name, reward in result["rewards"].items():
        assert f"| `{name}` | {' | '.join(map(interval, reward.values()))} |" in text
    for gain in result["judge"].values():
        assert interval(gain) in text
    assert result["judge"]["advised over default"]["high"] >= 0


def interval(found: dict[str, float]) -> str:
    return f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"


def test_the_advice_in_the_evidence_is_a_recipe() -> None:
    advised = load(EVIDENCE / "probe" / "advice.yaml")
    assert (advised.search.candidates, advised.search.top_k) == (4, 1)


def test_the_committed_prompts_of_scenes_are_those_of_their_script() -> None:
    """Half of them have three scenes, and half of those end with the first one; scenes of a video share no colour."""
    script = runpy.run_path(str(EVIDENCE / "scenes.py"))
    lines = [line for line in (EVIDENCE / "prompts_scenes.jsonl").read_text("utf-8").splitlines() if line[0] != "#"]
    assert [json.loads(line) for line in lines] == script["entries"](32, script["chunks_of"](957), "flush", 60)
    assert [script["chunks_of"](frames) for frames in (81, 477, 957)] == [7, 40, 80]
    found = prompt_lines(EVIDENCE / "prompts_scenes.jsonl")
    assert len({line.text for line in found}) == 32
    assert not any(line.problem for line in found)
    assert Counter(len(line.scenes) for line in found) == {2: 16, 3: 16}
    assert sum(line.prompts[0] == line.prompts[-1] for line in found) == 8
    specs = [[parse(prompt) for prompt in line.prompts] for line in found]
    assert all(split(spec) == "test" for each in specs for spec in each)
    assert Counter(len(spec.things) for each in specs for spec in each) == {1: 40, 2: 40}
    for first, second, *_ in specs:
        assert first.background != second.background
        assert not {thing.colour for thing in first.things} & {thing.colour for thing in second.things}


@pytest.mark.parametrize("frames", [21, 82])
def test_a_length_that_three_scenes_cannot_have_is_refused(frames: int) -> None:
    with pytest.raises(SystemExit, match=f"{frames} frames"):
        runpy.run_path(str(EVIDENCE / "scenes.py"))["chunks_of"](frames)


def test_the_table_of_memory_policies_has_every_cut_and_sees_unequal_forwards(tmp_path: Path) -> None:
    script: dict[str, Any] = runpy.run_path(str(EVIDENCE / "memory.py"))
    assert {name: load(name).search for name in script["POLICIES"]}.keys() == script["POLICIES"].keys()
    assert len({load(name).search.model_dump_json() for name in script["POLICIES"]}) == 1
    for cut, forwards in (("flush", 4), ("keep", 5)):
        (tmp_path / cut).mkdir()
        append(tmp_path / cut, row("no-sinking", "a", 0.5))
        append(tmp_path / cut, row("elite", "a", 0.7, forwards=forwards))
    script["write"](tmp_path)
    text = (tmp_path / "memory.md").read_text("utf-8")
    assert "| flush | elite | a better chunk replaces the first sink | +0.200 [+0.200, +0.200] | 0.700 |" in text
    assert text.endswith("Prompts: 1 with flush, 1 with keep. Not equal in forwards, or not finished: keep.\n")
    assert json.loads((tmp_path / "memory.json").read_text("utf-8")).keys() == {"flush", "keep"}


def test_the_rewards_page_quotes_the_self_score() -> None:
    page = (EVIDENCE.parent / "rewards.md").read_text(encoding="utf-8")
    found = json.loads((EVIDENCE / "self_score" / "ranks.json").read_text(encoding="utf-8"))
    titles = {"self": "`self`", "self-published": "`self`, `against: nothing`"}
    titles |= {"tinyalign": "`tinyalign`, trained for this world", "basic": "`basic`"}
    for name, title in titles.items():
        first, later = found["first"][name], found["later"][name]
        ranks = [f"{each['rank correlation']:.2f} ({each['standard error']:.2f})" for each in (first, later)]
        shares = [f"{each['share']:.2f}" for each in (first, later)]
        assert f"| {title} | {' | '.join(ranks + shares)} |" in page
    recipes = table.summary(read(EVIDENCE / "self_score"))["recipes"]
    for name in ("self", "beam"):
        assert table.interval(recipes[name]["metrics"]["score"]["gain"]) in " ".join(page.split())
