"""CPU threads: a run works with those that its model gains from, and the process has its own again afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Barrier, Thread
from typing import Any

import pytest
import torch

import streamt1_plugins as streamt1
from streamt1_plugins.process import threads
from streamt1_plugins.process.threads import chosen, limited
from tests import toy
from tests.toy import ToyPipeline

OWN = 3
"""The process's threads in these tests."""
BEAM = {"search": {"candidates": 2, "top_k": 1}, "rewards": {"long": {"seen": {}}}}


@pytest.fixture(autouse=True)
def _own_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(threads.THREADS, raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(OWN)
    yield
    torch.set_num_threads(before)


def blas() -> list[int]:
    return [pool.read() for pool in threads._pools() if pool.name != "torch"]


@dataclass
class Seen(toy.Bright):
    """Notes the threads that it is called with; fails where it is told to."""

    fails: bool = False

    def __post_init__(self) -> None:
        self.found: set[int] = set()

    def score(self, inp: Any) -> Any:
        self.found.add(torch.get_num_threads())
        if self.fails:
            raise RuntimeError
        return super().score(inp)


def wrapped(seen: Seen, *overrides: str, adapter: str = "toy-one-thread") -> streamt1.StreamPipeline:
    return streamt1.wrap(ToyPipeline(), BEAM, adapter=adapter, overrides=list(overrides), rewards={"seen": seen})


# The limit itself.


def fail_on_one_thread() -> None:
    with limited(1):
        assert torch.get_num_threads() == 1
        assert set(blas()) <= {1}
        _ = 1 / 0


def test_a_limit_is_given_back_also_after_an_error() -> None:
    before = blas()
    with pytest.raises(ZeroDivisionError):
        fail_on_one_thread()
    assert (torch.get_num_threads(), blas()) == (OWN, before)


def test_a_limit_inside_another_one_gives_that_back() -> None:
    with limited(2):
        with limited(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == OWN


def test_of_two_runs_that_overlap_the_last_one_gives_back_what_was_there() -> None:
    both_in, one_out, found = Barrier(2), Barrier(2), {}

    def first() -> None:
        with limited(1):
            both_in.wait()
        found["first"] = torch.get_num_threads()
        one_out.wait()

    def second() -> None:
        with limited(2):
            both_in.wait()
            one_out.wait()
            found["second, inside"] = torch.get_num_threads()
        found["second"] = torch.get_num_threads()

    running = [Thread(target=each) for each in (first, second)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    fresh = Thread(target=lambda: found.update(fresh=torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert found == {"first": 2, "second, inside": 2, "second": OWN, "fresh": OWN}
    assert torch.get_num_threads() == OWN


# The number.


def test_what_the_user_says_comes_before_the_recipe_and_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (chosen(), chosen(declared=1), chosen(8, 1)) == (None, 1, 8)
    monkeypatch.setenv(threads.THREADS, " 5 ")
    assert chosen(8, 1) == 5


def test_processes_side_by_side_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert (chosen(), chosen(declared=1), chosen(8)) == (2, 1, 8)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    assert chosen() == 1


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "²"])
def test_what_is_no_number_is_an_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(threads.THREADS, text)
    with pytest.raises(streamt1.InputError, match=r"is no number of threads: expected 1 or more\."):
        chosen()


def test_a_process_that_is_started_inside_gets_the_same_number() -> None:
    assert threads.environment() == {}
    with limited(1):
        assert threads.environment() == {threads.THREADS: "1"}


# Runs.


def test_a_search_works_with_the_threads_that_its_adapter_declares() -> None:
    seen = Seen()
    pipe = wrapped(seen)
    pipe("a prompt")
    assert (seen.found, pipe.last_run.threads, torch.get_num_threads()) == ({1}, 1, OWN)


def test_a_run_that_fails_gives_the_threads_back() -> None:
    seen = Seen(fails=True)
    with pytest.raises(streamt1.PluginError):
        wrapped(seen, "rewards.long.seen.on_error=raise")("a prompt")
    assert (seen.found, torch.get_num_threads()) == ({1}, OWN)


def test_whoever_reads_a_stream_has_its_own_threads() -> None:
    pipe = wrapped(seen := Seen())
    assert {torch.get_num_threads() for _ in pipe.stream("a prompt")} == {OWN}
    assert seen.found == {1}


def test_a_recipe_may_name_the_threads() -> None:
    wrapped(seen := Seen(), "placement.threads=2")("a prompt")
    assert (seen.found, torch.get_num_threads()) == ({2}, OWN)


def test_without_a_declaration_nothing_is_changed() -> None:
    pipe = wrapped(seen := Seen(), adapter="toy")
    pipe("a prompt")
    assert (seen.found, pipe.last_run.threads) == ({OWN}, None)


def test_the_bundled_model_takes_one_thread_and_a_real_one_takes_all() -> None:
    pipe = streamt1.load("tinyworld", "plain")
    adapter = pipe._adapter
    assert adapter.threads(pipe.pipe, {}) == 1
    assert adapter.threads(pipe.pipe, {"height": 4800, "width": 8320}) is None
    assert os.environ.get(threads.THREADS) is None
