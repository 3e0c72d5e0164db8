"""Every test runs offline and on one thread; the toy plugin is registered like an installed one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
sys.path.insert(0, str(Path(__file__).parents[1]))  # tests.toy is named in entry "module:attr" strings

import pytest
import torch

from streamt1_plugins.plugins.discovery import discovery
from tests import toy

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _toy_plugin() -> None:
    discovery().add(toy, name="toy", origin="tests")
