"""An error names the process to blame and its activity, and one process reports it."""

from __future__ import annotations

import signal

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
    worlds[2].status_board.fail("Process 2 of 3 while decoding: no luck", reported=True)
    worlds[1].status_board.fail("Process 2 of 3 while decoding: it has ended", reported=False)
    error = worlds[0].lost("lost its connection")
    assert (str(error), error.reported) == ("Process 2 of 3 while decoding: no luck", True)


def test_else_those_that_missed_an_exchange_are(worlds: list[World]) -> None:
    for rank in (0, 1):
        worlds[rank].status_board.count_exchange()
    worlds[2].status_board.update(activity="loading")
    assert str(worlds[0].lost("lost", 1, "is late")) == "Process 2 of 3 while loading: it is late"
    assert str(worlds[0].lost("lost", 1)) == "Process 2 of 3 while loading: it has ended"
    nobody = str(worlds[0].lost("lost its connection", 0))
    assert nobody.startswith("Process 0 of 3 while starting: it lost its connection. Process 1 of 3 while starting; ")


def test_a_process_that_ended_is_to_blame_before_those_that_are_late(worlds: list[World]) -> None:
    for rank in (0, 1):
        worlds[rank].status_board.count_exchange()
    worlds[0].status_board.publish_ending(1, "ended with exit code 3")
    assert str(worlds[0].lost("lost", 1, "is late")) == "Process 1 of 3 while starting: it ended with exit code 3"


def test_a_process_that_has_finished_may_end(worlds: list[World]) -> None:
    worlds[1].finish()
    worlds[0].status_board.publish_ending(1, "ended with exit code 0")
    assert str(worlds[0].lost("got SIGTERM")).startswith("Process 0 of 3 while starting: it got SIGTERM. ")


def test_a_process_that_never_joined_is_to_blame() -> None:
    alone = World(0, 2, "cpu", StatusBoard(0, HashStore()))
    assert str(alone.lost("got SIGTERM")) == "Process 1 of 2 while starting: it has not joined"
    with pytest.raises(LostProcessError, match=r"^Process 1 of 2 while starting: it has not joined in 0.1 s$"):
        alone.group((0, 1), 0.1)


def test_sigterm_is_an_error_until_the_process_has_failed_and_its_handler_comes_back(worlds: list[World]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with worlds[1].ended_by_signals():
        with pytest.raises(LostProcessError, match="it got SIGTERM"), worlds[1].fail_together():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # ignored: the error is still to be printed
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_while_the_one_to_blame_is_looked_for_changes_nothing(
    worlds: list[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looks = World._watch_others, iter([signal.SIGTERM])

    def interrupted(self: World) -> None:
        look(self)
        for number in looks:
            worlds[0].status_board.publish_ending(2, "was killed by SIGKILL")
            signal.raise_signal(number)

    monkeypatch.setattr(World, "_watch_others", interrupted)
    with worlds[1].ended_by_signals():
        assert str(worlds[1].lost("lost", 1)) == "Process 2 of 3 while starting: it was killed by SIGKILL"


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
    worlds[0].status_board.fail("no luck", reported=False)
    assert not worlds[1].reports(failure), "a lower rank has failed and reports"
    worlds[1].status_board.publish_ending(0, "was killed by SIGKILL")
    assert worlds[1].reports(failure), "one that has ended cannot report"
    assert not worlds[2].reports(LostProcessError("lost", reported=True)), "the user has seen it"


def test_a_closed_connection_is_an_error(worlds: list[World]) -> None:
    worlds[0].is_over = True
    with pytest.raises(RuntimeError, match="the connection has been closed"):
        worlds[0].group((0, 1), 1.0)
