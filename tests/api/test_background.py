"""Work beside the search: in order, bounded, with errors that surface, and a thread only while there is work."""

from __future__ import annotations

import gc
import os
import threading
import traceback
import weakref
from typing import Any

import pytest

from streamt1_plugins.api.background import Background
from streamt1_plugins.errors import OutputError, PluginError


class Held:
    """A background whose first job waits until it is released."""

    def __init__(self, most: int = 16) -> None:
        self.background, self.release, self.done = Background(most), threading.Event(), list[Any]()
        begun = threading.Event()
        self.background.submit("Holding", lambda: (begun.set(), self.release.wait(30)))
        assert begun.wait(30)

    def submit(self, name: Any, **kwargs: Any) -> None:
        self.background.submit(f"Job {name}", lambda: self.done.append(name), **kwargs)


def test_jobs_are_done_in_order_and_urgent_ones_first() -> None:
    held = Held()
    for name in ("picture 1", "picture 2"):
        held.submit(name)
    for name in ("flush 1", "flush 2"):
        held.submit(name, urgent=True)
    held.submit("picture 3")
    held.release.set()
    held.background.drain()
    assert held.done == ["flush 1", "flush 2", "picture 1", "picture 2", "picture 3"]


def test_a_full_queue_lets_the_search_wait() -> None:
    held = Held(most=2)
    held.submit(1)
    held.submit(2)
    third = threading.Thread(target=held.submit, args=(3,))
    third.start()
    third.join(0.05)
    assert third.is_alive()
    held.release.set()
    third.join(30)
    held.background.drain()
    assert held.done == [1, 2, 3]


def test_a_failure_is_raised_once_with_its_own_traceback_and_the_others_are_done() -> None:
    held = Held()

    def broken() -> None:
        raise ZeroDivisionError("no luck")

    held.background.submit("Drawing", broken)
    held.background.submit("Writing", lambda: (_ for _ in ()).throw(OutputError("The disk is gone.")))
    held.submit("after")
    held.release.set()
    held.background.wait()
    with pytest.raises(PluginError, match="Drawing failed: ZeroDivisionError: no luck") as caught:
        held.background.check()
    assert "in broken" in "".join(traceback.format_exception(caught.value.__cause__))
    with pytest.raises(OutputError, match="The disk is gone"):
        held.background.drain()
    held.background.drain()
    assert held.done == ["after"]


def test_there_is_a_thread_only_while_there_is_work() -> None:
    background, before = Background(), threading.active_count()
    assert threading.active_count() == before
    for _ in range(3):
        background.submit("Nothing", lambda: None)
        background.drain()
        for thread in threading.enumerate():
            if thread.name == "streamt1-background":
                thread.join(30)  # it has nothing more to do
    assert threading.active_count() == before


def test_what_a_job_holds_is_free_when_it_is_done() -> None:
    class Frames:
        pass

    frames, held = Frames(), Held()
    alive = weakref.ref(frames)
    held.background.submit("Drawing", lambda frames=frames: None)
    del frames
    held.release.set()
    held.background.drain()
    gc.collect()
    assert alive() is None


def test_a_job_may_submit_another_one_however_full_the_queue_is() -> None:
    held = Held(most=1)
    held.background.submit("Outer", lambda: held.submit("inner"))
    held.release.set()
    held.background.drain()
    assert held.done == ["inner"]


def test_where_no_thread_can_be_started_the_job_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    background, done = Background(most=1), list[int]()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for number in range(3):
        background.submit("Writing", lambda number=number: done.append(number))
        assert done[-1] == number
    background.drain()


def test_an_interruption_between_a_job_and_its_thread_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    background, done = Background(most=1), list[str]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            background.submit("Writing", lambda: done.append("written"))
    background.submit("Writing", lambda: done.append("more"))
    background.drain()
    assert done == ["written", "more"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_jobs_of_its_own() -> None:
    held = Held()
    held.submit("parent's")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            held.background.drain()  # of nothing: the parent's jobs are not its own
            held.submit("child's")
            held.background.drain()
            code = int(held.done != ["child's"])
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    held.release.set()
    held.background.drain()
    assert held.done == ["parent's"]
