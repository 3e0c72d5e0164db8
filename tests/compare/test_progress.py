"""What a comparison prints while it runs, outside a terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from streamt1_plugins.api.types import Chunk
from streamt1_plugins.compare import progress
from streamt1_plugins.config.schema import Recipe
from tests.compare.examples import comparison, row, sized


def test_the_plan_counts_recipes_prompts_and_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    progress.print_plan(comparison(), 4)
    progress.print_plan(comparison(seeds=[0, 1]), 5)
    plan, recipes, again, _ = capsys.readouterr().err.splitlines()
    assert plan == "2 recipes x 2 prompts x 1 seed: 4 videos"
    assert recipes == "recipes: plain, beam; judge: short-only"
    assert again == "2 recipes x 2 prompts x 2 seeds: 8 videos, 3 of them done"


def test_videos_that_another_process_makes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    for count in (0, 1, 2):
        progress.print_others(count)
    assert [line.partition(" being made by another")[0] for line in capsys.readouterr().err.splitlines()] == [
        "1 video is",
        "2 videos are",
    ]


def test_every_row_is_a_line_and_markup_stays_text(capsys: pytest.CaptureFixture[str]) -> None:
    progress.show([row("plain", "a [red]cat[/red]", 0.5), row("beam", "b", None)], 2)
    assert capsys.readouterr().err.splitlines() == [
        "1/2  plain  0.500  500 ms  about 500 ms left  a [red]cat[/red]",
        "2/2  beam  \N{EN DASH}  500 ms  b",
    ]


def test_the_forwards_of_a_recipe_are_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    def count(each: Recipe) -> int:
        return each.search.candidates * 10

    printing, beam = progress.printing_counts(count), sized(2, 3).model_copy(update={"description": "Beam"})
    assert [printing(beam), printing(beam), printing(sized(4, 1))] == [20, 20, 40]
    first, second = capsys.readouterr().err.splitlines()
    assert first == "forwards of Beam, 2 x 3 candidates per chunk: 20"
    assert second.endswith(", 4 x 1 candidates per chunk: 40")


def test_a_long_video_has_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(3, "videos") as shown:
        shown.advance("chunk 1 of 4  a", 0.25)
        shown.pause = 0.0
        inside = progress.VideoProgress(shown)
        run: Any = SimpleNamespace(prompt="a [red]cat[/red]")
        inside.streamt1_chunk_selected(run, Chunk(1, 4))
        progress.VideoProgress().streamt1_chunk_selected(run, Chunk(1, 4))
    assert capsys.readouterr().err.splitlines() == ["1/3  50 %  chunk 2 of 4  a [red]cat[/red]"]
