"""In this repository the example is not installed: make it importable and register it as its entry point would."""

import sys
from pathlib import Path

import pytest

from streamt1_plugins.plugins.discovery import discovery

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="session")
def _rolling_plugin():
    if "rolling" not in discovery().plugins:
        import streamt1_example_adapter

        discovery().add(streamt1_example_adapter, name="rolling", origin="streamt1-example-adapter")
