"""Every process can read what the others do, how far they are, and why one of them ended."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from torch.distributed import HashStore

from streamt1_plugins.search.distributed.endings import machine
from streamt1_plugins.search.distributed.status_board import Status, StatusBoard


@pytest.fixture
def boards() -> list[StatusBoard]:
    store = HashStore()
    return [StatusBoard(rank, store) for rank in range(3)]


def test_a_status_is_read_by_all_processes(boards: list[StatusBoard]) -> None:
    boards[1].update(activity="generating candidate 001.01")
    here = {"pid": os.getpid(), "machine": machine()}
    assert boards[0].status(1) == Status("generating candidate 001.01", **here)
    assert boards[0].status(2) == Status("starting", **here), "one that has published nothing else"
    assert boards[0].status(7) == Status(), "one that has not joined"


def test_exchanges_and_failures_are_counted_and_found(boards: list[StatusBoard]) -> None:
    assert [boards[2].count_exchange(), boards[2].count_exchange()] == [1, 2]
    assert boards[0].status(2).exchanges == 2
    assert not boards[0].any_failed(range(3))
    assert boards[0].first_failed() is None
    boards[2].fail("no luck", reported=True)
    boards[1].fail("lost the other one", reported=False)
    assert boards[0].any_failed(range(3))
    assert not boards[0].any_failed(range(1))
    assert boards[0].first_failed() == boards[2].mine


def test_the_ending_of_a_process_is_published_by_another_one(boards: list[StatusBoard]) -> None:
    boards[1].update(activity="decoding")
    boards[0].publish_ending(1, "was killed by SIGKILL")
    assert boards[2].status(1) == replace(boards[1].mine, ending="was killed by SIGKILL")


def test_a_counter_is_shared(boards: list[StatusBoard]) -> None:
    assert [boards[0].count("taken", 1), boards[1].count("taken", 2), boards[2].count("taken")] == [1, 3, 3]
