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

from streamt1_plugins.errors import UnreachableError
from streamt1_plugins.evaluation.remote.wire import TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.config.rewards import Place

POLL = 0.05  # seconds between two looks at the port file
PATIENCE = 5.0  # seconds that a process has to end by itself
LAST_LINES = 5  # lines of output in an error message


class ServerProcess:
    """A server process, with the `url` and the `token` for requests while it `is_alive`.

    It ends when its standard input closes, so it cannot outlive this process, however that ends.
    """

    def __init__(self, name: str, place: Place, options: Mapping[str, Any], device: str) -> None:
        """Start it and wait until its reward is loaded; `UnreachableError` has its last output where that fails."""
        self.name, self.token = name, secrets.token_hex(16)
        self._folder = tempfile.TemporaryDirectory(prefix="streamt1-reward-")
        self._log, self._port = (Path(self._folder.name) / file for file in ("log.txt", "port.txt"))
        command = [
            str(place.python),
            "-m",
            "streamt1_plugins.cli.reward_worker",
            name,
            "--options",
            json.dumps(dict(options)),
        ]
        command += ["--device", device, "--port-file", str(self._port)]
        self.popen = self._started(command)
        self.url = self._wait(place.start_timeout)

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

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

    def _started(self, command: list[str]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, TOKEN: self.token}
        try:
            with self._log.open("wb") as log:
                return subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment
                )
        except OSError as error:
            raise UnreachableError(f"Reward {self.name!r}: {command[0]} cannot be started ({error}).") from error

    def _wait(self, seconds: float) -> str:
        end = time.monotonic() + seconds
        while not self._port.exists():
            if not self.is_alive or time.monotonic() > end:
                code, output = self.popen.poll(), self._last_output()
                why = f"was not ready in {seconds:g} s" if code is None else f"ended with code {code}"
                self.popen.kill()
                self.stop()
                raise UnreachableError(f"Reward {self.name!r}: its process {why}. Its last output: {output or 'none'}.")
            time.sleep(POLL)
        return self._port.read_text(encoding="utf-8")

    def _last_output(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(line.strip() for line in lines[-LAST_LINES:])
