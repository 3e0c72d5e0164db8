"""The command `streamt1 compare`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streamt1_plugins.cli import main as cli
from streamt1_plugins.compare import forwards
from streamt1_plugins.compare.page import PAGE
from streamt1_plugins.compare.run import RESULTS, read
from tests.compare.examples import remove_matplotlib
from tests.toy import ShortOnly

PROMPTS = Path(__file__).parents[2] / "docs" / "evidence" / "prompts_5s.txt"


def compare(folder: Path, *args: str, judge: str = "short-only", model: str | None = "toy") -> Any:
    if not (folder / "prompts.txt").exists():
        (folder / "prompts.txt").write_text("# two\na\n\nb\n", encoding="utf-8")
    given = ["--prompts", str(folder / "prompts.txt"), "--out", str(folder / "out"), "--judge", judge]
    return CliRunner().invoke(cli.app, ["compare", *args, *given, *(["--model", model] if model else [])])


def labels_of(folder: Path) -> dict[str, int]:
    """Candidates of a video by recipe."""
    return {each["recipe"]: each["cost"]["candidates"] for each in read(folder / "out")}


def test_candidates_run_each_search_at_each_width(tmp_path: Path) -> None:
    done = compare(tmp_path, "plain", "beam", "--candidates", "4,1,2,2")
    assert done.exit_code == 0, done.output
    assert labels_of(tmp_path) == {"plain": 4, "beam@1": 4, "beam@2": 8, "beam@4": 16}
    assert "| beam@4 | " in done.stdout


def test_the_plan_the_videos_and_the_files_are_printed(tmp_path: Path) -> None:
    done = compare(tmp_path, "plain", "beam")
    assert done.exit_code == 0, done.output
    assert "2 recipes x 2 prompts x 1 seed: 4 videos\n" in done.stderr
    assert re.search(r"^4/4  beam  0\.\d{3}  (\d+ ms|\d\.\d s)  b$", done.stderr, re.MULTILINE)
    assert re.search(rf"^page    {re.escape(str(tmp_path / 'out' / PAGE))}$", done.stdout, re.MULTILINE)
    for name in (RESULTS, PAGE, "summary.json", "summary.md"):
        assert (tmp_path / "out" / name).stat().st_size
        assert name in done.stdout
    assert (tmp_path / "out" / "summary.md").read_text() in done.stdout
    again = compare(tmp_path, "plain", "beam", "--seeds", "2")
    assert "2 recipes x 2 prompts x 2 seeds: 8 videos, 4 of them done\n" in again.stderr
    assert "4/4  beam" in again.stderr


def test_match_widens_the_searches_to_equal_forwards(tmp_path: Path) -> None:
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
        (["--match", "forwards", "--candidates", "2"], "use one of the two"),
        (["--candidates", "2,x"], "is not of the form N,N,..."),
        (["--candidates", ""], "is not of the form N,N,..."),
        (["--candidates", "0,2"], "a width is at least 1 candidate"),
        (["plain"], "Two of the recipes are called 'plain'"),
        (["no-such"], "Unknown recipe 'no-such'"),
    ],
)
def test_mistakes_are_reported_before_anything_is_generated(tmp_path: Path, options: list[str], message: str) -> None:
    done = compare(tmp_path, "plain", "beam", *options)
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_nothing_is_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_matplotlib(monkeypatch)
    done = compare(tmp_path, "plain")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "needs matplotlib: pip install 'streamt1-plugins[compare]'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unwritable_result_is_reported(tmp_path: Path) -> None:
    (tmp_path / "out" / PAGE).mkdir(parents=True)
    done = compare(tmp_path, "plain")
    assert done.exit_code == 2
    assert f"{tmp_path / 'out' / PAGE} cannot be written: Is a directory." in done.stderr


def test_an_unknown_judge_is_guessed(tmp_path: Path) -> None:
    done = compare(tmp_path, "plain", judge="short-onyl")
    assert done.exit_code == 2
    assert "Unknown reward 'short-onyl'. Did you mean 'short-only'?" in done.stderr


def test_missing_prompts_are_reported(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").mkdir()
    done = compare(tmp_path, "plain")
    assert done.exit_code == 2
    assert "prompts.txt" in done.stderr


def test_schedules_of_a_prompt_file_are_compared(tmp_path: Path) -> None:
    scenes = {"prompt": "sun", "schedule": [{"chunk": 2, "prompt": "rain", "memory": "flush"}]}
    (tmp_path / "prompts.txt").write_text(f"sun\n{json.dumps(scenes)}\n", encoding="utf-8")
    done = compare(tmp_path, "plain", "beam", "--match", "forwards")
    assert done.exit_code == 0, done.output
    rows = read(tmp_path / "out")
    assert {each["prompt"]: each.get("schedule") for each in rows} == {
        "sun": None,
        "sun; from chunk 2 (flush): rain": scenes["schedule"],
    }
    assert "| scene_01 | scene_02 |" in done.stdout
    assert "memory at cuts: flush" in (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
    (tmp_path / "prompts.txt").write_text(json.dumps({**scenes, "schedules": 1}), encoding="utf-8")
    assert "Did you mean 'schedule'?" in compare(tmp_path, "plain").stderr


def test_shards_share_the_prompts(tmp_path: Path) -> None:
    for shard in ("0/2", "1/2"):
        done = compare(tmp_path, "plain", "--shard", shard)
        assert "1 recipe x 1 prompt x 1 seed: 1 videos" in done.stderr
    assert [each["prompt"] for each in read(tmp_path / "out")] == ["a", "b"]


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
    assert costs == {"plain": (3, 14), "stream-t1": (12, 52)}  # as `recipes validate` counts
    found = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert (found["base"], found["prompts"], found["drift"]["last"]) == ("plain", 4, "chunk_03")
    assert "| stream-t1 | " in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "stream-t1 against plain" in (tmp_path / "out" / PAGE).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--seeds", "0", "greater than or equal to 1"), ("--shard", "2/2", "below N"), ("--shard", "two", "form I/N")],
)
def test_wrong_options_are_explained(tmp_path: Path, option: str, value: str, message: str) -> None:
    done = compare(tmp_path, "plain", option, value)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_prompts_that_the_judge_cannot_read_are_found_before_anything_is_generated(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red circle\na purple elephant\na b\x07d one\na red circle\n")
    done = compare(tmp_path, "plain", judge="tinyworld-judge")
    assert done.exit_code == 3
    first, second, *_ = done.stderr.splitlines()
    assert "line 2: Reward 'tinyworld-judge' cannot read this prompt: unknown words elephant" in first
    assert "line 3: character 4 is U+0007" in second
    assert "1 recipe x 1 prompt x 1 seed: 1 videos" in done.stderr


def test_a_video_that_fails_is_reported_and_the_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(self: ShortOnly, inp: Any) -> Any:
        if inp.prompts == ("a",):
            raise ValueError("no a")
        return scored(self, inp)

    scored = ShortOnly.score
    monkeypatch.setattr(ShortOnly, "score", score)
    done = compare(tmp_path, "plain", "beam")
    assert done.exit_code == 3
    for label in ("plain", "beam"):
        assert re.search(rf"Error: {label}, seed 0, prompt 'a': .*ValueError: no a", done.stderr)
    assert labels_of(tmp_path).keys() == {"plain", "beam"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-o", "seed=3"], "leave out -o seed"),
        (["-o", "model=tinyworld"], "--model toy and an override give model two values"),
        (["-o", "observers.video.path=all.mp4"], "The observer 'video' writes one run, to all.mp4"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(tmp_path: Path, args: list[str], message: str) -> None:
    done = compare(tmp_path, "plain", *args)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_recipes_of_different_models_are_refused(tmp_path: Path) -> None:
    done = compare(tmp_path, "plain", "longlive", model=None)
    assert done.exit_code == 2
    assert "The recipes name different models (models/longlive, tinyworld-student)" in done.stderr


def test_videos_are_kept_within_a_limit(tmp_path: Path) -> None:
    done = compare(tmp_path, "plain", "--videos-mb", "0")
    assert done.exit_code == 0, done.output
    assert "videos/" not in done.stdout
    assert "2 prompts are few" in done.stdout
    again = compare(tmp_path, "plain", "--seeds", "2")
    assert "videos/)" in again.stdout
    assert len(list((tmp_path / "out" / "videos").iterdir())) == 2
    assert "2 prompts are few" in json.loads((tmp_path / "out" / "summary.json").read_text())["caution"]


def test_videos_of_different_lengths_are_not_compared(tmp_path: Path) -> None:
    done = compare(tmp_path, "plain", "30s")
    assert done.exit_code == 2
    assert "different sizes (num_frames: plain: the default, 30s: 477)" in done.stderr
    assert "--num-frames" in done.stderr
    assert not (tmp_path / "out").exists()
    assert compare(tmp_path, "plain", "30s", "--num-frames", "21").exit_code == 0


def test_weights_are_fitted_and_written_as_a_recipe(tmp_path: Path) -> None:
    wide = tmp_path / "wide.yaml"
    wide.write_text("extends: beam\nrewards: {long: {scripted: {}}}\n", encoding="utf-8")
    file = tmp_path / "new" / "weights.yaml"
    done = compare(tmp_path, "plain", str(wide), "--candidates", "2,4", "--fit-weights", str(file))
    assert done.exit_code == 0, done.output
    text = file.read_text(encoding="utf-8")
    assert "extends: ../wide.yaml\n" in text
    assert re.search(r"^short\.bright +\+0\.\d{3} \[", done.stdout, re.MULTILINE)
    judged = {each["recipe"] for each in read(tmp_path / "out") if "judged" in each}
    assert judged == {"wide@4"}
    again = compare(tmp_path, "plain", str(wide), "--fit-weights", str(file))
    assert again.exit_code == 2
    assert f"{file} exists. Name a new file for --fit-weights" in again.stderr
    shown = CliRunner().invoke(cli.app, ["recipes", "validate", str(file), "--model", "toy"])
    assert shown.exit_code == 0, shown.output


@pytest.mark.parametrize(
    ("recipes", "message"), [(["plain"], "needs a recipe that searches"), (["beam"], "not judged")]
)
def test_weights_that_cannot_be_fitted_are_refused_before_anything_is_generated(
    tmp_path: Path, recipes: list[str], message: str
) -> None:
    if recipes == ["beam"]:
        assert compare(tmp_path, *recipes).exit_code == 0
    done = compare(tmp_path, *recipes, "--fit-weights", str(tmp_path / "weights.yaml"))
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "weights.yaml").exists()


def test_an_oracle_needs_no_consent_and_the_others_have_their_regret(tmp_path: Path) -> None:
    oracle = tmp_path / "oracle.yaml"
    oracle.write_text("extends: beam\n", encoding="utf-8")
    done = compare(tmp_path, "plain", "beam", str(oracle), judge="short-only")
    assert done.exit_code == 0, done.output
    assert "| oracle (sees the judge) |" in done.stdout
    assert re.search(r"\| beam \| [+-]0\.\d{3} \[.*\] \| oracle \|", done.stdout)
    assert re.search(r"\| plain \| .*\| oracle \(4 x the forwards\) \|", done.stdout)
