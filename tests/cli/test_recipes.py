"""`streamt1 recipes`: list, show, copy, validate, schema and diff."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from streamt1_plugins.config import load as recipe
from tests.cli.calling import call, one_line


def test_list_names_every_shipped_recipe_and_what_it_is() -> None:
    shown = call("recipes", "list").stdout
    for name, path in recipe.names().items():
        assert name in shown
        assert recipe.load(path).description in shown


def test_show_prints_the_file_and_resolved_the_whole_recipe() -> None:
    assert call("recipes", "show", "plain").stdout == recipe.find("plain").read_text()
    complete = yaml.safe_load(call("recipes", "show", "plain", "--resolved").stdout)
    assert complete["model"] == "tinyworld-student"
    assert complete["scoring"] == {"name": "hybrid", "cap": 0.4, "horizon": "both", "window": 1, "decay": 1.0}
    assert complete["adapter"]["chunk_frames"] == 3


def test_copy_writes_a_file_that_runs_and_overwrites_only_when_told() -> None:
    assert call("recipes", "copy", "plain", "mine.yaml").exit_code == 0
    assert recipe.load("mine.yaml") == recipe.load("plain")
    Path("mine.yaml").write_text("seed: 1")
    assert "mine.yaml exists. Overwrite it with --force." in one_line(call("recipes", "copy", "plain", "mine.yaml"))
    assert Path("mine.yaml").read_text() == "seed: 1"
    assert call("recipes", "copy", "plain", "mine.yaml", "--force").exit_code == 0
    assert Path("mine.yaml").read_text() == recipe.find("plain").read_text()
    assert "cannot be written" in one_line(call("recipes", "copy", "plain", "mine.yaml/x.yaml"))


def bad_recipes() -> Iterator[tuple[str, str]]:
    yield "extends: plain\nsearchh: {}", "unknown key 'searchh'. Did you mean 'search'?"
    yield "extends: plain\nscoring: {name: hybridd}", "Unknown scoring policy 'hybridd'. Did you mean 'hybrid'?"
    yield "extends: plain\nscoring: {name: hybrid, cup: 1}", "no option 'cup'. Did you mean 'cap'?"
    yield "extends: plain\nscoring: {name: hybrid, cap: 3}", "cap = 3"
    yield "extends: plain\nobservers: {vido: {}}", "Unknown observer 'vido'. Did you mean 'video'?"
    yield "extends: plain\nrewards: {long: {bright: {options: {cals: []}}}}", "no option 'cals'. Did you mean 'calls'?"
    yield "extends: plain\nrewards: {long: {short-only: {}}}", "serves only the horizons short"
    yield "extends: plain\nadapter: {chunk_frame: 3}", "no option 'chunk_frame'. Did you mean 'chunk_frames'?"
    yield "just text", "is not a recipe: expected keys and values"
    yield "a: [", "is not YAML"


@pytest.mark.parametrize(("text", "message"), bad_recipes())
def test_validate_finds_what_is_wrong(text: str, message: str) -> None:
    Path("bad.yaml").write_text(text)
    result = call("recipes", "validate", "plain", "bad.yaml")
    assert result.exit_code == 2
    assert result.stdout.splitlines()[0] == "OK     plain"
    assert result.stderr.startswith("Error: bad.yaml: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_validate_passes_what_is_right_and_tells_the_cost() -> None:
    result = call("recipes", "validate", "plain", "30s", "--num-frames", "21")
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert [line.partition(",")[0] for line in lines if "memory" not in line] == [
        "OK     plain",
        "2 chunks: 2 candidates",
        "OK     30s",
        "2 chunks: 8 candidates",
    ]
    memory = re.compile(r"about ([\d.]+) MB of memory, .*\(model 16 MB, .*\)")
    plain, wide = memory.fullmatch(lines[2]), memory.fullmatch(lines[5])
    assert plain
    assert wide
    assert 16 < float(plain[1]) < float(wide[1]) < 50


@pytest.mark.parametrize(
    ("recipe", "why"),
    [("longlive", "'models/longlive' is not on this machine"), ("toy.yaml", "the adapter 'toy'")],
)
def test_validate_says_where_the_memory_is_not_known(recipe: str, why: str) -> None:
    Path("toy.yaml").write_text("model: toy\nadapter: toy\n")
    line = call("recipes", "validate", recipe).stdout.splitlines()[-1].strip()
    assert line.startswith("memory not known: ")
    assert why in line


def test_validate_tells_what_a_budget_allows() -> None:
    Path("mine.yaml").write_text("extends: stream-t1\nwidth: {name: budget, forwards: 100}\n")
    told = call("recipes", "validate", "mine.yaml", "--num-frames", "33").stdout
    lines = [line.strip() for line in told.splitlines()]
    assert lines[1].startswith("at least 3 chunks: 6 candidates, 28 transformer forwards")
    assert lines[2].startswith("at most 3 chunks: 24 candidates, 100 transformer forwards")


def test_a_length_the_adapter_cannot_make_is_an_error_of_the_recipe() -> None:
    result = call("recipes", "validate", "plain", "--num-frames", "20")
    assert result.exit_code == 2
    assert "plain: `num_frames` = 20 does not fill whole chunks" in one_line(result)


def test_the_schema_is_printed_or_written() -> None:
    shown = call("recipes", "schema").stdout
    assert json.loads(shown)["title"] == "Recipe"
    assert call("recipes", "schema", "recipe.schema.json").exit_code == 0
    assert Path("recipe.schema.json").read_text() == shown
    assert "cannot be written" in one_line(call("recipes", "schema", "recipe.schema.json/x"))


def test_diff_shows_the_keys_that_differ() -> None:
    Path("other.yaml").write_text("extends: plain\ndescription: mine\nseed: 7\nadapter: {steps: [8, 2]}\n")
    rows = [line.split(maxsplit=1) for line in call("recipes", "diff", "plain", "other.yaml").stdout.splitlines()]
    assert [row[0] for row in rows] == ["key", "adapter.steps", "seed"]
    assert rows[2][1].split() == ["42", "7"]
    assert call("recipes", "diff", "plain", "plain").stdout == "No difference.\n"


def test_validate_refuses_what_generate_refuses() -> None:
    line = one_line(call("recipes", "validate", "stream-t1", "--num-frames", "4101"))
    assert "The longest video is 4089 frames" in line
    Path("where.yaml").write_text("extends: plain\nrewards: {long: {basic: {where: /no/python}}}")
    assert "'/no/python' is no program" in one_line(call("recipes", "validate", "where.yaml"))
    Path("twice.yaml").write_text("search: {top_k: 1}\nsearch: {top_k: 2}\n")
    assert "line 2, column 1: the key 'search' is given twice" in one_line(call("recipes", "validate", "twice.yaml"))
    Path("p.txt").write_text("fine\nb\x07d\n")
    assert "p.txt: line 2: character 2 is U+0007" in one_line(
        call("recipes", "validate", "plain", "--prompts", "p.txt")
    )
    Path("p.txt").write_text("fine\n")
    assert call("recipes", "validate", "plain", "--prompts", "p.txt").exit_code == 0
    Path("video.yaml").write_text("extends: plain\nobservers: {video: {crf: 30}}")
    assert call("recipes", "validate", "video.yaml").exit_code == 0


def test_what_is_accepted_prints_back_as_written() -> None:
    words = {"description": "1:30", "model": "no", "seed": 12}
    Path("mine.yaml").write_text("description: 1:30\nmodel: no\nseed: 012\nadapter: {name: toy}\nsearch: {top_k: 1}\n")
    shown = call("recipes", "show", "mine.yaml", "--resolved").stdout
    assert {name: yaml.safe_load(shown)[name] for name in words} == words
    Path("utf16.yaml").write_text("extends: plain\ndescription: größe\n", encoding="utf-16")
    assert "description: größe" in call("recipes", "show", "utf16.yaml").stdout


def test_a_recipe_of_thirty_seconds_makes_thirty_seconds_unless_told_otherwise() -> None:
    told = call("recipes", "validate", "30s").stdout
    assert "40 chunks: 160 candidates" in told
    assert "2 chunks: 8 candidates" in call("recipes", "validate", "30s", "--num-frames", "21").stdout
    planned = json.loads(call("generate", "a red circle", "--recipe", "30s", "--dry-run", "--json").stdout)
    assert planned["cost"].startswith("40 chunks")


def test_keys_are_changed_for_every_command_that_reads_a_recipe() -> None:
    wide = call("recipes", "validate", "plain", "stream-t1", "-o", "search.top_k=3", "-o", "video.num_frames=21")
    assert "2 chunks: 6 candidates" in wide.stdout
    assert "2 chunks: 12 candidates" in wide.stdout
    assert yaml.safe_load(call("recipes", "show", "plain", "-o", "seed=7").stdout)["seed"] == 7
    assert "search.top_k" not in call("recipes", "diff", "plain", "beam", "-o", "search.top_k=3").stdout
    assert "'top_k'" in one_line(call("recipes", "validate", "plain", "-o", "search.topk=3"))
