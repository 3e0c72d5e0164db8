"""Server of a reward in its own process.

``python -m streamt1_plugins.cli.reward_worker NAME`` is what `where: {python: ...}` in a recipe starts. It imports
neither diffusers nor transformers: the environment needs only torch, pluggy, pydantic, safetensors, cachetools, the
libraries of the extra `serve`, and the reward.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import StreamT1Error, foreign_code
from streamt1_plugins.evaluation.remote.check import CHECK
from streamt1_plugins.evaluation.remote.process import PATIENCE
from streamt1_plugins.evaluation.remote.wire import offer, shared_token
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.process import threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streamt1_plugins.evaluation.remote.server import RewardServer


LOCAL = ("127.0.0.1", 0)  # on any free port


@contextmanager
def loggers_kept(library: str) -> Iterator[None]:
    """A context for a library that sets up its loggers: level, handlers and propagation come back."""
    names = [f"{library}.{part}" for part in ("access", "asgi", "error")]
    before = [
        (each, each.level, each.propagate, [*each.handlers]) for each in map(logging.getLogger, [library, *names])
    ]
    try:
        yield
    finally:
        for log, level, propagate, handlers in before:
            log.setLevel(level)
            log.propagate = propagate
            log.handlers[:] = handlers


@contextmanager
def reward_server(
    name: str, options: Mapping[str, Any], device: str = "cpu", address: tuple[str, int] = LOCAL, max_mb: int = 1024
) -> Iterator[RewardServer]:
    """A server bound to its address, with the reward loaded; `run` makes it serve. The reward is freed at the end.

    max_mb: the largest request; 1024 holds 47 chunks of 12 frames of 480 x 832.
    """
    from streamt1_plugins.evaluation.remote.server import RewardServer  # here: its libraries are optional
    from streamt1_plugins.process.placement import checked

    checked(device, "device")
    reward = build.instance(discovery().rewards[name], options, "option")
    offered = offer(name, reward, max_mb * 2**20)
    with (
        threads.limited(threads.given()),
        loggers_kept("uvicorn"),
        closing(RewardServer(address, reward, offered, device, shared_token())) as server,
    ):
        with foreign_code(f"Loading reward {name!r}"):
            reward.load(device)
        try:
            yield server
        finally:
            with foreign_code(f"Unloading reward {name!r}"):
                reward.unload()


def main() -> int:
    """Serve until standard input closes; the port file gets the URL once the reward is loaded."""
    parser = argparse.ArgumentParser(prog="python -m streamt1_plugins.cli.reward_worker", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--device", default="cpu")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--port-file", type=Path)
    wanted.add_argument(CHECK, action="store_true", help="build the reward and load nothing")
    given = parser.parse_args()
    if given.check:
        return _check(given.name, given.options)
    serving: list[RewardServer] = []
    Thread(target=_end_with_parent, args=(serving,), daemon=True).start()
    try:
        with reward_server(given.name, given.options, given.device) as server:
            serving.append(server)
            part = given.port_file.with_suffix(".part")
            part.write_text(server.url, encoding="utf-8")
            part.replace(given.port_file)
            server.run()
    except StreamT1Error as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _check(name: str, options: Mapping[str, Any]) -> int:
    """Build the reward as `reward_server` does."""
    try:
        build.instance(discovery().rewards[name], options, "option")
    except StreamT1Error as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _end_with_parent(serving: Sequence[RewardServer]) -> None:
    """Wait until standard input closes. End the server in `serving`, and then the process, whatever it is busy with."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    for server in serving:
        server.stop()
        time.sleep(PATIENCE)  # for the reward to free what it loaded; the process mostly ends meanwhile
    os._exit(0)


def _exit(code: int) -> None:
    """End the process with `code`, also where the reward has left a thread that would keep it alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _exit(main())
