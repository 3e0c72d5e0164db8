"""The observer `report`."""

from __future__ import annotations

from pathlib import Path

import pytest

import streamt1_plugins as streamt1
from streamt1_plugins.runs.observers.report import ReportPage
from streamt1_plugins.runs.report import PAGE
from tests.toy import ToyPipeline


def test_without_a_journal_there_is_no_page_but_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    streamt1.wrap(ToyPipeline(), observers={"report": ReportPage(str(tmp_path))})("a prompt")
    assert "needs the observer `journal`" in caplog.text
    assert not (tmp_path / PAGE).exists()
