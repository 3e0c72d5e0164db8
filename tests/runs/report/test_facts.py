"""The numbers of the page."""

from __future__ import annotations

import pytest

from streamt1_plugins.runs.report import facts


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.4, "59.4 s"), (185, "3 min 05 s"), (7440, "2 h 04 min")]
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert facts.duration(seconds) == text
