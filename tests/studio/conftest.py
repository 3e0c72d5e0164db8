"""Studios of the toy pipeline: with a stand-in for takes, or with takes themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import streamt1_plugins as streamt1
from streamt1_studio import studio as module
from streamt1_studio.studio import Studio
from tests.studio.standin import StandIn
from tests.toy import ToyPipeline


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """A studio whose takes need no model."""
    monkeypatch.setattr(module, "Hand", StandIn)
    made = Studio(streamt1.wrap(ToyPipeline()), tmp_path / "runs")
    yield made
    made.close()


@pytest.fixture
def toy_studio(tmp_path: Path) -> Iterator[Studio]:
    """A studio of the toy pipeline."""
    made = Studio(streamt1.wrap(ToyPipeline()), tmp_path / "runs")
    yield made
    made.close()
