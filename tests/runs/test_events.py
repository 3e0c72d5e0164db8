"""The events of a run: what they hold of a call."""

from __future__ import annotations

import streamt1_plugins as streamt1
from streamt1_plugins.runs import journal
from streamt1_plugins.runs.events import RunEvents, recordable
from tests.runs.shared import run


def test_arguments_are_recorded_where_json_can_hold_them() -> None:
    call = {"chunks": 3, "sizes": [1, 2], "pair": (1, 2), "nan": float("nan"), "x": object(), "generator": None}
    assert recordable(call) == ({"chunks": 3, "sizes": [1, 2]}, ["pair", "nan", "x"])


def test_a_chunk_is_an_event_once_whoever_reports_it_how_often() -> None:
    events: list[journal.Event] = []

    class Twice:
        @streamt1.hookimpl
        def streamt1_run_started(self, run: streamt1.Run) -> None:
            self.made = RunEvents(run)

        @streamt1.hookimpl
        def streamt1_chunk_selected(self) -> None:
            events.extend([*self.made.committed(), *self.made.committed()])

    run({"twice": Twice()})
    assert [event["chunk"] for event in events] == [0, 1, 2, 3]
    assert {(event["frames"], event["height"], event["width"]) for event in events} == {(3, 2, 2)}
