"""`streamt1 generate --dry-run`: the plan, and nothing made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.calling import call, generate, one_line


def test_a_dry_run_prints_recipe_cost_memory_and_folder_and_makes_nothing() -> None:
    done = call("generate", "a red circle", "--dry-run", "--num-frames", "33", "-o", "search.top_k=3")
    assert done.exit_code == 0, done.output
    recipe, _, rest = done.stdout.partition("\n\n")
    found = yaml.safe_load(recipe)
    assert (found["search"]["top_k"], found["video"]["num_frames"]) == (3, 33)
    assert found["adapter"]["name"] == "tinyworld-student"
    cost, memory, folder = rest.splitlines()
    assert cost.startswith("cost    3 chunks: 18 candidates")
    assert memory.startswith("memory  about ")
    assert folder == "folder  runs/TIME-a-red-circle"
    assert not list(Path().iterdir())


def test_a_dry_run_of_several_lists_what_is_there_and_what_would_be_made() -> None:
    assert generate("--seeds", "1", "2", "--out", "out", "-q").exit_code == 0
    shown = generate("--seeds", "1-3", "--out", "out", "--dry-run", "--json")
    found = json.loads(shown.stdout)
    assert [(video["seed"], video["state"]) for video in found["videos"]] == [(1, "done"), (2, "done"), (3, "new")]
    assert generate("--seeds", "3", "--out", "out", "--dry-run", "-q").stdout == "out/0001-a-prompt-seed-3\n"
    text = generate("--seeds", "1-3", "--out", "out", "--dry-run").stdout
    assert "videos  3: 1 to make, 2 exists" in text
    assert not Path("out/0001-a-prompt-seed-3").exists()


@pytest.mark.parametrize(
    ("args", "message"), [(("--out", "full"), "is not empty"), (("-o", "search.topk=1"), "'top_k'")]
)
def test_a_dry_run_refuses_what_a_run_refuses(args: tuple[str, ...], message: str) -> None:
    Path("full").mkdir()
    Path("full/mine").touch()
    assert message in one_line(generate("--dry-run", *args))
