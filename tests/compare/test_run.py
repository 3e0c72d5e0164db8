"""Comparisons: paired statistics, resumable results, judges a recipe may not select on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from streamt1_plugins.cli import main as cli
from streamt1_plugins.compare import stats, table
from streamt1_plugins.compare.comparison import Comparison
from streamt1_plugins.compare.run import RESULTS, read, run
from streamt1_plugins.config import load as recipe
from streamt1_plugins.errors import RecipeError


def comparison(**changes: object) -> Comparison:
    recipes = {"plain": recipe.load("plain"), "beam": recipe.load("beam", ["rewards.long={bright: {}}"])}
    settings = {"recipes": recipes, "prompts": ["a", "b"], "seeds": [0, 1], "judge": "short-only", "model": "toy"}
    return Comparison(**(settings | changes))


def test_every_recipe_prompt_and_seed_is_run_once_and_judged(tmp_path: Path) -> None:
    rows = list(run(comparison(), tmp_path))
    assert {(r["recipe"], r["prompt"], r["seed"]) for r in rows} == {
        (label, prompt, seed) for label in ("plain", "beam") for prompt in "ab" for seed in (0, 1)
    }
    assert all(0 <= row["judge"]["score"] <= 1 for row in rows)
    assert {row["cost"]["candidates"] for row in rows} == {4, 16}


def test_an_interrupted_comparison_goes_on_where_it_stopped(tmp_path: Path) -> None:
    steps = run(comparison(), tmp_path)
    first = [next(steps) for _ in range(3)]
    steps.close()
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"recipe": "torn')
    assert read(tmp_path) == first


def test_results_go_on_after_a_torn_line(tmp_path: Path) -> None:
    steps = run(comparison(), tmp_path)
    next(steps)
    steps.close()
    with (tmp_path / RESULTS).open("a") as file:
        file.write('{"recipe": "torn')
    assert len(list(run(comparison(), tmp_path))) == 7
    assert len(read(tmp_path)) == 8


def test_a_judge_the_recipe_selects_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="beam selects on 'bright'"):
        list(run(comparison(judge="bright"), tmp_path))
    assert len(list(run(comparison(judge="bright", allow_circular=True), tmp_path))) == 8


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for i in range(100):
        found = stats.bootstrap({str(p): [v] for p, v in enumerate(rng.normal(0.3, 1, 40))}, seed=i)
        hits += found.low <= 0.3 <= found.high
    assert 88 <= hits <= 99


def test_seeds_of_one_prompt_are_not_independent_evidence() -> None:
    one = stats.bootstrap({"a": [0.0], "b": [1.0], "c": [0.5]})
    many = stats.bootstrap({"a": [0.0] * 9, "b": [1.0] * 9, "c": [0.5] * 9})
    assert (one.low, one.high) == (many.low, many.high)


def test_paired_differences_and_wins() -> None:
    base = {("a", 0): 0.5, ("a", 1): 0.5, ("b", 0): 1.0}
    other = {("a", 0): 0.75, ("a", 1): 0.5, ("c", 0): 9.0}
    differences = stats.paired(base, other)
    assert differences == {"a": [0.25, 0.0]}
    assert stats.wins(differences) == {"better": 1, "equal": 1, "worse": 0}


EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"


@pytest.mark.parametrize("folder", sorted(path.parent for path in EVIDENCE.rglob(RESULTS)), ids=lambda path: path.name)
def test_the_committed_tables_are_those_of_the_committed_rows(folder: Path) -> None:
    found = table.summary(read(folder))
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8")) == json.loads(json.dumps(found))
    assert table.markdown(found) in (EVIDENCE / "README.md").read_text(encoding="utf-8")


def test_the_readme_quotes_the_committed_evidence() -> None:
    readme = (EVIDENCE.parents[1] / "README.md").read_text(encoding="utf-8")
    found = table.summary(read(EVIDENCE / "embedded_5s"))["recipes"]
    for name in ("plain", "best-of-n", "beam", "stream-t1"):
        metric = found[name]["metrics"]["score"]
        gain = table.interval(metric["gain"])
        line = f"| `{name}` | {metric['mean']['mean']:.3f} | {gain} | {found[name]['cost']['forwards']:g} |"
        assert line in readme
    long = table.summary(read(EVIDENCE / "embedded_30s"))["recipes"]
    scores = [f"{long[name]['metrics']['score']['mean']['mean']:.3f}" for name in ("stream-t1", "plain")]
    assert f"At 30 seconds `stream-t1` scores {scores[0]} and `plain` {scores[1]}." in readme


def test_the_evidence_quotes_what_the_units_were_measured_to_do() -> None:
    text = " ".join((EVIDENCE / "README.md").read_text(encoding="utf-8").split())
    found = json.loads((EVIDENCE / "units.json").read_text(encoding="utf-8"))
    assert max(row["initial_noise"] for row in found["noise"]) < 0.000001
    for plan, route, pattern in (
        ("recommended", "ema", "({:.3f} and {:.3f})"),
        ("ema_decay 0.9", "ema", "at 0.9 it is {:.2f} and {:.2f}"),
        ("recommended", "append", "({:.2f} and {:.2f} of that distance)"),
    ):
        effects = [row["effect"] for row in found["memory"] if (row["plan"], row["route"]) == (plan, route)]
        assert pattern.format(*sorted(effects)) in text
    counts = {route: sum(row[route] for row in found["routes"]) for route in ("append", "ema", "discard")}
    told = "{append} of {total} decisions were to append, {ema} to merge and {discard} to discard"
    assert told.format(**counts, total=sum(counts.values())) in text


def test_the_command_compares_and_writes_its_tables(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("# two\na\n\nb\n", encoding="utf-8")
    out = tmp_path / "out"
    call = ["compare", "plain", "beam", "--prompts", str(prompts), "--judge", "short-only", "--model", "toy"]
    done = CliRunner().invoke(cli.app, [*call, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads((out / "summary.json").read_text())["prompts"] == 2
    assert "| beam | " in done.stdout


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--prompts", "nowhere.txt", "does not exist"), ("--shard", "2/2", "below N"), ("--shard", "two", "form I/N")],
)
def test_wrong_options_are_explained(tmp_path: Path, option: str, value: str, message: str) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a\n", encoding="utf-8")
    options = {"--prompts": str(prompts), "--judge": "short-only", "--model": "toy", "--out": str(tmp_path / "out")}
    flat = [each for pair in (options | {option: value}).items() for each in pair]
    done = CliRunner().invoke(cli.app, ["compare", "plain", *flat])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
