"""Groups of processes: how those a launcher started are split over prompts and candidates."""

from __future__ import annotations

import pytest

from streamt1_plugins.config.schema import ParallelSettings
from streamt1_plugins.errors import RecipeError
from streamt1_plugins.search.distributed.launch import sizes


@pytest.mark.parametrize(
    ("given", "processes", "many", "expected"),
    [
        ({}, 1, False, (1, 1)),
        ({}, 4, False, (1, 4)),
        ({}, 4, True, (4, 1)),
        ({"candidates": 2}, 4, True, (2, 2)),
        ({"prompts": 2}, 6, True, (2, 3)),
        ({"prompts": 2, "candidates": 3}, 6, True, (2, 3)),
        ({"candidates": 3}, 3, False, (1, 3)),
    ],
)
def test_groups_make_up_the_processes(
    given: dict[str, int], processes: int, many: bool, expected: tuple[int, int]
) -> None:
    assert sizes(ParallelSettings(**given), processes, many_prompts=many) == expected


@pytest.mark.parametrize(
    ("given", "processes", "many", "message"),
    [
        ({"candidates": 4}, 1, False, "parallel.candidates = 4 needs 4 processes, but 1 was started"),
        ({"candidates": 3}, 4, True, "needs a multiple of 3 processes, but 4 were started"),
        ({"prompts": 2, "candidates": 3}, 4, True, "needs 6 processes, but 4 were started"),
        ({"prompts": 2}, 2, False, "needs a file of prompts"),
    ],
)
def test_groups_that_do_not_are_refused(given: dict[str, int], processes: int, many: bool, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        sizes(ParallelSettings(**given), processes, many_prompts=many)
