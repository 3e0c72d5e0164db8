"""Tests for plugins to inherit: subclass a contract in a test file, give it your plugin, run pytest."""

from __future__ import annotations

from streamt1_plugins.testing.adapter import AdapterContract
from streamt1_plugins.testing.adapter_features import AdapterFeatures
from streamt1_plugins.testing.adapter_numerics import AdapterNumerics
from streamt1_plugins.testing.host_conventions import HostConventions
from streamt1_plugins.testing.policy import PolicyContract
from streamt1_plugins.testing.reward import RewardContract

__all__ = [
    "AdapterContract",
    "AdapterFeatures",
    "AdapterNumerics",
    "HostConventions",
    "PolicyContract",
    "RewardContract",
]
