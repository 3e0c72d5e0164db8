"""A reward server on a thread of the test's process, and a client for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx

from streamt1_plugins.api.reward import Reward, RewardInput
from streamt1_plugins.cli.reward_worker import reward_server
from streamt1_plugins.config.rewards import Place
from streamt1_plugins.evaluation.remote.client import RemoteReward
from streamt1_plugins.evaluation.remote.server import RewardServer
from streamt1_plugins.testing import RewardContract


def example() -> RewardInput:
    return RewardContract().make_input(lead=4)


@contextmanager
def serving(
    name: str = "flicker", reward: Reward | None = None, host: str = "127.0.0.1", port: int = 0, max_mb: int = 1024
) -> Iterator[RewardServer]:
    """A running server; `reward` replaces the one that `name` stands for."""
    with reward_server(name, {}, "cpu", (host, port), max_mb) as server:
        server.reward = reward or server.reward
        thread = Thread(target=server.run, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


def remote(server: RewardServer, name: str = "flicker", **place: Any) -> RemoteReward:
    made = RemoteReward(name, Place(url=server.url, **place), {})
    made.load("cpu")
    return made


def request(server: RewardServer, method: str, path: str, **given: Any) -> httpx.Response:
    return httpx.request(method, server.url + path, trust_env=False, verify=False, timeout=20, **given)
