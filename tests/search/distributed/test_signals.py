"""Signals that end a process become errors, and whoever handled them before does so again."""

from __future__ import annotations

import signal
import threading

import pytest

from streamt1_plugins.search.distributed.signals import ENDING, on_ending


class Stopped(Exception):
    """What the tests raise."""


def stop(found: signal.Signals) -> None:
    raise Stopped(found.name)


@pytest.mark.parametrize("number", ENDING)
def test_an_ending_signal_is_an_error(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=number.name), on_ending(stop):
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_is_ignored_stays_so(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    with on_ending(stop, replace=number is not signal.SIGTERM):
        signal.raise_signal(number)
    signal.signal(number, before)


def test_the_handler_of_a_program_is_replaced_on_demand_alone() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    ours = signal.getsignal(signal.SIGTERM)
    with on_ending(stop):
        signal.raise_signal(signal.SIGTERM)
    assert got == [signal.SIGTERM]
    with pytest.raises(Stopped), on_ending(stop, replace=True):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is ours
    signal.signal(signal.SIGTERM, before)


def test_another_thread_than_the_main_one_changes_nothing() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with on_ending(stop):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
