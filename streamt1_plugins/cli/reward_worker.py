"""The server side of a reward in its own process.

``python -m streamt1_plugins.cli.reward_worker NAME`` is what `where: {python: ...}` in a recipe starts. It imports
neither diffusers nor transformers, so an environment needs only torch, pluggy, pydantic, safetensors and the reward.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import StreamT1Error, foreign_code
from streamt1_plugins.evaluation.remote.server import RewardServer
from streamt1_plugins.evaluation.remote.wire import MAX_MB, TOKEN, offer
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MEGABYTE = 2**20


@dataclass(frozen=True)
class Serving:
    """What to serve, and where. port 0: any free one. max_mb: the largest request."""

    name: str
    options: Mapping[str, Any]
    device: str = "cpu"
    host: str = "127.0.0.1"
    port: int = 0
    max_mb: int = MAX_MB


@contextmanager
def server(serving: Serving) -> Iterator[RewardServer]:
    """A bound server around the loaded reward; call its `serve_forever`. Freed at the end.

    Raises `StreamT1Error` for an unknown reward, a wrong option, weights that do not load, or an address in use.
    """
    reward = build.instance(discovery().rewards[serving.name], serving.options, "option")
    said = offer(serving.name, reward, serving.max_mb * MEGABYTE)
    token = os.environ.get(TOKEN, "")
    with RewardServer((serving.host, serving.port), reward, said, serving.device, token) as bound:
        with foreign_code(f"Loading reward {serving.name!r}"):
            reward.load(serving.device)
        try:
            yield bound
        finally:
            reward.unload()


def main() -> int:
    """Serve until standard input closes; the address goes into the port file once the reward is loaded."""
    parser = argparse.ArgumentParser(prog="python -m streamt1_plugins.cli.reward_worker", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--port-file", type=Path, required=True)
    given = parser.parse_args()
    try:
        with server(Serving(given.name, given.options, given.device)) as bound:
            Thread(target=_stop_with_parent, args=(bound,), daemon=True).start()
            part = given.port_file.with_suffix(".part")
            part.write_text(bound.url, encoding="utf-8")
            part.replace(given.port_file)
            bound.serve_forever()
    except StreamT1Error as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _stop_with_parent(bound: RewardServer) -> None:
    sys.stdin.buffer.read()
    bound.shutdown()


if __name__ == "__main__":
    raise SystemExit(main())
