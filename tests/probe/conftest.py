"""The toy models of the room are registered like an installed plugin."""

from __future__ import annotations

import pytest

from streamt1_plugins.plugins.discovery import discovery
from tests.probe import models


@pytest.fixture(autouse=True, scope="session")
def _probed_plugin(_toy_plugin: None) -> None:
    discovery().add(models, name="probed", origin="tests")
