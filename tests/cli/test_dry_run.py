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


def test_a_dry_run_counts_what_a_recache_adds() -> None:
    """The window but for the chunk to come, two chunks, is committed again for each of two beams."""

    def forwards(*args: str) -> int:
        shown = call("generate", "a red circle", "--dry-run", "--num-frames", "57", *args).stdout
        return int(shown.partition(" candidates, ")[2].partition(" transformer forwards")[0])

    plain, flushed = forwards(), forwards("--schedule", "[{chunk: 3, prompt: rain, memory: flush}]")
    again = forwards("--schedule", "[{chunk: 3, prompt: rain, memory: recache}]")
    assert (flushed, again) == (plain, plain + 2 * 2)


def test_videos_whose_scenes_cost_differently_have_a_cost_each() -> None:
    lines = ["sun", '{"prompt": "moon", "schedule": [{"chunk": 2, "prompt": "rain", "memory": "recache"}]}', "stars"]
    Path("prompts.txt").write_text("\n".join(lines), encoding="utf-8")
    args = ("generate", "--prompts", "prompts.txt", "--out", "out", "--dry-run", "--num-frames", "57")
    shown = call(*args).stdout.partition("cost    ")[2].splitlines()
    assert shown[0].endswith(" for each of 2 videos")
    assert shown[1].endswith(" for each of 1 videos")
    found = json.loads(call(*args, "--json").stdout)
    costs = [video["cost"] for video in found["videos"]]
    assert costs[0] == costs[2] == found["cost"] != costs[1]
