"""Recipes at other widths, and recipes widened to the same forwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamt1_plugins.compare import widths
from streamt1_plugins.config import load as recipe
from streamt1_plugins.config.schema import Recipe
from tests.compare.examples import sized


def size(of: Recipe) -> tuple[int, int]:
    return of.search.candidates, of.search.top_k


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
    found = widths.at_widths({"plain": recipe.load("plain"), "beam": sized(2, 2)}, [2, 4])
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


def one_step_wider(each: Recipe) -> Recipe:
    candidates, top_k = size(each)
    return sized(1, top_k + 1) if candidates == 1 else sized(candidates + 1, top_k)


@pytest.mark.parametrize(("each", "count"), [((2, 2), shared_beginning), ((1, 2), whole_videos), ((3, 1), by_kind)])
@pytest.mark.parametrize("budget", [60, 101, 260, 1000])
def test_a_recipe_grows_to_its_budget_or_one_candidate_more(
    each: tuple[int, int], count: Callable[[Recipe], int], budget: int
) -> None:
    start = sized(*each)
    found = widths.grown(start, budget, count)
    candidate = count(found) / widths.width(found)
    step = count(one_step_wider(start)) - count(start)
    assert budget - step < count(found) <= budget + candidate


def test_a_recipe_beyond_the_budget_is_left_alone() -> None:
    assert widths.grown(sized(2, 2), 10, shared_beginning) == sized(2, 2)


def test_a_step_that_costs_more_than_one_candidate_beyond_the_budget_is_not_taken() -> None:
    assert size(widths.grown(sized(2, 4), 91, shared_beginning)) == (2, 4)  # 90, then 130


def test_growth_ends_where_more_candidates_cost_no_more_forwards() -> None:
    assert widths.grown(sized(2, 2), 100, lambda _: 50) == sized(2, 2)
