"""Server of a reward in its own process.

``python -m streamt1_plugins.cli.reward_worker NAME`` is what `where: {python: ...}` in a recipe starts. It imports
neither diffusers nor transformers: the environment needs only torch, pluggy, pydantic, safetensors, cachetools, the
libraries of the extra `serve`, and the reward.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import StreamT1Error, foreign_code
from streamt1_plugins.evaluation.remote.wire import offer, shared_token
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamt1_plugins.evaluation.remote.server import RewardServer


LOCAL = ("127.0.0.1", 0)  # on any free port


@contextmanager
def reward_server(
    name: str, options: Mapping[str, Any], device: str = "cpu", address: tuple[str, int] = LOCAL, max_mb: int = 1024
) -> Iterator[RewardServer]:
    """A server bound to its address, with the reward loaded; `run` makes it serve. The reward is freed at the end.

    max_mb: the largest request; 1024 holds 47 chunks of 12 frames of 480 x 832.
    """
    from streamt1_plugins.evaluation.remote.server import RewardServer  # here: its libraries are optional
    from streamt1_plugins.placement import checked

    checked(device, "device")
    reward = build.instance(discovery().rewards[name], options, "option")
    offered = offer(name, reward, max_mb * 2**20)
    with closing(RewardServer(address, reward, offered, device, shared_token())) as server:
        with foreign_code(f"Loading reward {name!r}"):
            reward.load(device)
        try:
            yield server
        finally:
            reward.unload()


def main() -> int:
    """Serve until standard input closes; the port file gets the URL once the reward is loaded."""
    parser = argparse.ArgumentParser(prog="python -m streamt1_plugins.cli.reward_worker", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--port-file", type=Path, required=True)
    given = parser.parse_args()
    try:
        with reward_server(given.name, given.options, given.device) as server:
            Thread(target=_end_with_parent, args=(server,), daemon=True).start()
            part = given.port_file.with_suffix(".part")
            part.write_text(server.url, encoding="utf-8")
            part.replace(given.port_file)
            server.run()
    except StreamT1Error as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _end_with_parent(server: RewardServer) -> None:
    sys.stdin.buffer.read()
    server.stop()


if __name__ == "__main__":
    raise SystemExit(main())
