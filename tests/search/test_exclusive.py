"""One session per pipeline: who waits, who is refused, and what frees it."""

from __future__ import annotations

import gc
import pickle
import threading
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.errors import InputError
from streamt1_plugins.search import exclusive
from streamt1_plugins.search.exclusive import lock_of
from tests.toy import ToyPipeline

PROMPT = "a prompt"


class Session:
    def __init__(self) -> None:
        self.closings = 0

    def close(self) -> None:
        self.closings += 1


class Slotted:
    __slots__ = ()

    def close(self) -> None: ...


def test_a_pipeline_has_one_lock_as_long_as_somebody_has_it() -> None:
    pipe = ToyPipeline()
    lock = lock_of(pipe)
    assert lock_of(pipe) is lock
    assert lock_of(ToyPipeline()) is not lock


def test_the_same_thread_is_told_what_to_close() -> None:
    lock = lock_of(ToyPipeline())
    hold = lock.acquire("a stream (call its `close()`)")
    with pytest.raises(InputError, match=r"in use by a stream \(call its `close\(\)`\)\. Close that first"):
        lock.acquire("another")
    hold.release()
    with lock.acquire("another"):
        hold.release()  # it holds nothing any more
        with pytest.raises(InputError, match="in use by another"):
            lock.acquire("a third")
    lock.acquire("a third").release()


def test_another_thread_waits() -> None:
    lock = lock_of(ToyPipeline())
    order: list[str] = []

    def work() -> None:
        with lock.acquire("the second"):
            order.append("second")

    with lock.acquire("the first"):
        thread = threading.Thread(target=work)
        thread.start()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_thread_that_ended_without_closing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive, "PAUSE", 0.01)
    lock, holds = lock_of(ToyPipeline()), []
    thread = threading.Thread(target=lambda: holds.append(lock.acquire("a run of a thread that ended")))
    thread.start()
    thread.join()
    with pytest.raises(InputError, match="in use by a run of a thread that ended"):
        lock.acquire("another")


def test_closing_or_losing_the_session_releases() -> None:
    lock, session = lock_of(ToyPipeline()), Session()
    lock.acquire("a run").release_with(session)
    session.close()
    session.close()
    assert session.closings == 2
    hold = lock.acquire("a run")
    hold.release_with(session)
    del session
    gc.collect()
    assert lock.holder is None
    hold = lock.acquire("a run")
    hold.release_with(Slotted())  # cannot announce anything
    assert lock.holder is hold


# With the wrapper.


def test_an_open_run_is_named_and_closing_it_either_way_frees_the_pipeline() -> None:
    inner = ToyPipeline()
    one, two = streamt1.wrap(inner), streamt1.wrap(inner)
    for close in (lambda run: run.close(), lambda run: run.session.close(), one.complete):
        run = one.begin(PROMPT)
        for pipe in (one, two):
            with pytest.raises(InputError, match="in use by a run that `begin` opened"):
                pipe(PROMPT)
        close(run)
        assert run.session.closed
        two(PROMPT)


def test_a_call_within_a_call_is_refused_and_the_outer_one_goes_on() -> None:
    pipe = streamt1.wrap(ToyPipeline())
    found: list[str] = []

    def again(given: Any, *_: Any) -> None:
        with pytest.raises(InputError, match="in use"):
            given(PROMPT)
        found.append("refused")

    assert torch.equal(pipe(PROMPT, on_chunk_end=again), streamt1.wrap(ToyPipeline())(PROMPT))
    assert found == ["refused"] * 4


def test_refused_and_failed_calls_free_the_pipeline() -> None:
    pipe = streamt1.wrap(ToyPipeline())
    with pytest.raises(InputError):
        pipe("")
    with pytest.raises(RuntimeError, match="the pipeline broke"):
        pipe(PROMPT, fail_at=1)
    pipe(PROMPT)


def test_a_wrapper_is_pickled_without_its_lock() -> None:
    pipe = streamt1.wrap(ToyPipeline())
    video = pipe(PROMPT)
    again = pickle.loads(pickle.dumps(pipe))
    assert again._lock is not pipe._lock
    assert torch.equal(again(PROMPT), video)
