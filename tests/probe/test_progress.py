"""Progress of a probe where there is no terminal: a line per prompt."""

from __future__ import annotations

import pytest

from streamt1_plugins.probe import progress
from streamt1_plugins.probe.measure import ProbeOptions


def test_lines_have_the_time_that_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    progress.print_plan(3, 2, ProbeOptions())
    progress.print_plan(1, 1, ProbeOptions(candidates=4))
    with progress.shown(2) as shown:
        shown.advance("one [bold]", 0.5)
        progress.measured(shown, {"prompt": "one [bold]", "seconds": 90})
        progress.measured(shown, {"prompt": "two", "seconds": 30})
    assert capsys.readouterr().err.splitlines() == [
        "3 prompts, 1 of them measured; 8 candidates per chunk",
        "1 prompt; 4 candidates per chunk",
        "1/2  1 min 30 s  about 1 min 30 s left  one [bold]",
        "2/2  30.0 s  two",
    ]
