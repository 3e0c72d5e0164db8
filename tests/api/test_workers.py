"""One process alone does all the work itself."""

from __future__ import annotations

from typing import Any

from streamt1_plugins.api.workers import SingleProcess


def test_a_single_process_works_on_every_candidate_and_gathers_its_own_value() -> None:
    workers, run = SingleProcess(), None
    asked: list[list[int]] = []

    def work(indices: list[int]) -> list[str]:
        asked.append(indices)
        return [f"result {index}" for index in indices]

    nothing: Any = run
    with workers.fail_together():
        assert workers.map(nothing, [4, 7], work) == ["result 0", "result 1"]
    assert asked == [[0, 1]]
    kept: list[Any] = [object()]
    assert workers.gather_survivors(nothing, kept) is kept
    assert workers.all_gather("x") == ["x"]
