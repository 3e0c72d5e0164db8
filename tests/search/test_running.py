"""What surrounds a search: checks before it, and the end that observers and rewards get whatever happens."""

from __future__ import annotations

from typing import Any

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.search.running import running
from tests.toy import Bright, ToyPipeline


class Ends:
    def __init__(self) -> None:
        self.errors: list[BaseException | None] = []

    @hookimpl
    def streamt1_run_finished(self, error: BaseException | None) -> None:
        self.errors.append(error)


class Loaded(Bright):
    """Keeps what happens to it."""

    def load(self, device: str) -> None:
        self.calls.append("load")

    def reset(self) -> None:
        self.calls.append("reset")


def opened(*overrides: str) -> tuple[Ends, Loaded, Any, Any]:
    ends, reward = Ends(), Loaded()
    pipe = streamt1.wrap(ToyPipeline(), overrides=overrides, rewards={"mine": reward}, observers={"ends": ends})
    return ends, reward, pipe, pipe.begin("a prompt")


def test_rewards_are_loaded_before_and_reset_after_and_the_end_is_reported() -> None:
    ends, reward, pipe, run = opened()
    with running(pipe.search(run), pipe.pipe, None):
        assert reward.calls[:1] == ["load"]
        assert ends.errors == []
    assert reward.calls[-1] == "reset"
    assert ends.errors == [None]
    run.close()


def test_an_error_inside_is_the_end() -> None:
    ends, reward, pipe, run = opened()
    problem = ValueError("oh")
    with pytest.raises(ValueError, match="oh"), running(pipe.search(run), pipe.pipe, None):
        raise problem
    assert ends.errors == [problem]
    assert reward.calls[-1] == "reset"
    run.close()


def test_what_cannot_be_searched_is_refused_and_that_is_the_end() -> None:
    ends, reward, pipe, run = opened("early.steps=2")
    with pytest.raises(streamt1.RecipeError, match="cannot stop between two"), running(pipe.search(run), pipe, None):
        pass
    assert [type(error) for error in ends.errors] == [streamt1.RecipeError]
    assert reward.calls == []
    run.close()
