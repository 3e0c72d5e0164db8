"""Tests a plugin can inherit: subclass a contract in a test file, give it your part, run pytest."""

from __future__ import annotations

from streamt1_plugins.testing.adapter import AdapterContract
from streamt1_plugins.testing.reward import RewardContract

__all__ = ["AdapterContract", "RewardContract"]
