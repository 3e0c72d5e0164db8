"""Threads as the workers of one search: they exchange values in order of rank, and none waits for one that ended."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from streamt1_plugins.testing.threads import AbsentError, together


def test_every_thread_gets_the_values_of_all() -> None:
    def work(workers: Any) -> list[Any]:
        return [workers.all_gather((workers.rank, number)) for number in range(3)]

    expected = [[(0, number), (1, number), (2, number)] for number in range(3)]
    assert together([work] * 3) == [expected] * 3


def test_values_are_copies() -> None:
    given = torch.zeros(1)

    def work(workers: Any) -> torch.Tensor:
        found: torch.Tensor = workers.all_gather(given)[0]
        return found

    assert all(found is not given and torch.equal(found, given) for found in together([work, work]))


def test_only_one_runs_at_a_time() -> None:
    running, most = [0], [0]

    def work(workers: Any) -> None:
        for _ in range(20):
            running[0] += 1
            most[0] = max(most[0], running[0])
            running[0] -= 1
            workers.all_gather(None)

    together([work] * 4)
    assert most == [1]


def test_the_error_of_one_is_raised_and_nobody_waits() -> None:
    def fails(workers: Any) -> None:
        workers.all_gather(1)
        raise ZeroDivisionError

    def waits(workers: Any) -> None:
        workers.all_gather(1)
        workers.all_gather(2)

    for works in ([fails, waits], [waits, fails]):
        with pytest.raises(ZeroDivisionError):
            together(works)


def test_fewer_exchanges_than_the_others_are_an_error() -> None:
    def work(count: int) -> Any:
        return lambda workers: [workers.all_gather(None) for _ in range(count)]

    with pytest.raises(AbsentError, match="Exchange 1 is not reached by all"):
        together([work(1), work(2)])
