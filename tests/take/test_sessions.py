"""Sessions that several takes share are closed by the last one, and then the pipeline is given back."""

from __future__ import annotations

from typing import Any

import pytest

from streamt1_plugins.take.sessions import Sessions


class Recording:
    def __init__(self, log: list[str], name: str, fails: bool = False) -> None:
        self.log, self.name, self.fails = log, name, fails

    def close(self) -> None:
        self.log.append(self.name)
        if self.fails:
            raise OSError(self.name)


def opened(*, fails: bool = False) -> tuple[list[str], Sessions, Any, Any]:
    log: list[str] = []
    return log, Sessions(lambda: log.append("released")), Recording(log, "one", fails), Recording(log, "two")


def test_a_session_is_closed_by_its_last_take_and_the_pipeline_released_by_the_last_session() -> None:
    log, sessions, one, two = opened()
    for session in (one, one, two):
        sessions.join(session)
    sessions.leave(one)
    assert log == []
    sessions.leave(one)
    assert log == ["one"]
    sessions.leave(two)
    assert log == ["one", "two", "released"]


def test_a_session_that_cannot_be_closed_releases_the_pipeline_too() -> None:
    log, sessions, one, _ = opened(fails=True)
    sessions.join(one)
    with pytest.raises(OSError, match="one"):
        sessions.leave(one)
    assert log == ["one", "released"]
