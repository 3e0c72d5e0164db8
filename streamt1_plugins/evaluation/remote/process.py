"""The server of a reward in another interpreter: it starts with a run, and ends with it or with this process."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import UnreachableError, brief
from streamt1_plugins.evaluation.remote.wire import TOKEN
from streamt1_plugins.process import threads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.config.rewards import Place

POLL = 0.05  # seconds between two looks at the port file
PATIENCE = 5.0  # seconds that a process has to end by itself
LAST_LINES, LAST_BYTES = 5, 4096  # of output in an error message


class ServerProcess:
    """A server process, with the `url` and the `token` for requests while it `is_alive`.

    It ends when its standard input closes, so it cannot outlive this process, however that ends.
    """

    def __init__(self, name: str, place: Place, options: Mapping[str, Any], device: str) -> None:
        """Start it and wait until its reward is loaded; `UnreachableError` has its last output where that fails."""
        self.token = secrets.token_hex(16)
        self._folder = tempfile.TemporaryDirectory(prefix="streamt1-reward-")
        log, port = (Path(self._folder.name) / file for file in ("log.txt", "port.txt"))
        command = [
            str(user_path(str(place.python))),
            "-m",
            "streamt1_plugins.cli.reward_worker",
            name,
            "--device",
            device,
        ]
        command += ["--options", json.dumps(dict(options)), "--port-file", str(port)]
        env = {**os.environ, **threads.environment(), TOKEN: self.token}
        try:
            with log.open("wb") as out:
                self.popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out, env=env)
        except (OSError, ValueError) as error:
            raise UnreachableError(f"Reward {name!r}: {place.python} cannot be started ({error}).") from error
        try:
            self._wait(port, time.monotonic() + place.start_timeout)
        except BaseException:  # an interruption too
            self.kill()
            raise
        if not port.exists():
            code = self.popen.poll()
            why = f"was not ready in {place.start_timeout:g} s" if code is None else f"ended with code {code}"
            self.popen.kill()
            shown = last_lines(log)
            self.stop()
            raise UnreachableError(f"Reward {name!r}: its process {why}. Its last output: {shown}.")
        self.url = port.read_text(encoding="utf-8")

    def _wait(self, port: Path, end: float) -> None:
        """Wait until the process has loaded its reward, has ended, or until `end`."""
        while not port.exists() and self.is_alive and time.monotonic() <= end:
            time.sleep(POLL)

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    def kill(self) -> None:
        """End the process at once: it does not answer."""
        self.popen.kill()
        self.stop()

    def stop(self) -> None:
        """End the process; kill it where it does not end by itself in time."""
        if self.popen.stdin:
            self.popen.stdin.close()
        try:
            self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._folder.cleanup()


def last_lines(log: Path) -> str:
    """The last lines that a process wrote, however much it wrote."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LAST_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return brief(" | ".join(map(str.strip, lines[-LAST_LINES:]))) or "none"
