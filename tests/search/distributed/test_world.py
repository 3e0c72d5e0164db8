"""An error names the process to blame and its activity, and one process reports it."""

from __future__ import annotations

import pytest
from torch.distributed import HashStore

from streamt1_plugins.errors import RecipeError
from streamt1_plugins.search.distributed.status_board import StatusBoard
from streamt1_plugins.search.distributed.world import LostProcessError, World


@pytest.fixture
def worlds() -> list[World]:
    store = HashStore()
    return [World(rank, 3, "cpu", StatusBoard(rank, store)) for rank in range(3)]


def test_a_process_that_failed_is_to_blame(worlds: list[World]) -> None:
    worlds[2].status_board.update(failed="Process 2 of 3 while decoding: no luck", reported=True)
    error = worlds[0].lost("lost its connection")
    assert (str(error), error.reported) == ("Process 2 of 3 while decoding: no luck", True)


def test_else_those_that_missed_an_exchange_are(worlds: list[World]) -> None:
    for rank in (0, 1):
        worlds[rank].status_board.count_exchange()
    worlds[2].status_board.update(activity="loading")
    assert str(worlds[0].lost("lost", 1, "has ended")) == "Process 2 of 3 while loading: it has ended"
    nobody = str(worlds[0].lost("lost its connection", 0))
    assert nobody.startswith("Process 0 of 3 while starting: it lost its connection. Process 1 of 3 while starting; ")


def test_an_error_is_located_where_that_adds_something(worlds: list[World]) -> None:
    error = RecipeError("no")
    assert worlds[1].located(error) is error, "nothing was done yet"
    worlds[1].status_board.update(activity="deciding")
    assert str(worlds[1].located(error)) == "Process 1 of 3 while deciding: no"


def test_a_failure_is_published_and_reported_once(worlds: list[World]) -> None:
    failure = RecipeError("no luck")
    with pytest.raises(RecipeError), worlds[1].fail_together():
        raise failure
    assert worlds[0].status_board.status(1).failed == "Process 1 of 3 while starting: no luck"
    assert worlds[1].is_over
    assert worlds[0].reports(failure), "the lowest rank reports"
    worlds[0].status_board.update(failed="no luck")
    assert not worlds[1].reports(failure), "a lower rank has failed and reports"
    assert not worlds[2].reports(LostProcessError("lost", reported=True)), "the user has seen it"


def test_a_closed_connection_is_an_error(worlds: list[World]) -> None:
    with pytest.raises(RuntimeError, match="the connection has been closed"):
        worlds[0].group(0)
