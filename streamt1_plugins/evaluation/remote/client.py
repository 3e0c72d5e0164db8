"""A reward that asks a server: the same contract, another process."""

from __future__ import annotations

import http.client
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch
from pydantic import ValidationError

from streamt1_plugins.api.reward import DECLARED, Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError, UnreachableError
from streamt1_plugins.evaluation.remote.process import ServerProcess
from streamt1_plugins.evaluation.remote.wire import TOKEN, Offer, pack_input, unpack_output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.config.rewards import Place

ANSWER_LIMIT = 2**24  # bytes; an answer is a few numbers per candidate
FIRST_PAUSE = 0.2  # seconds before the first retry, doubled each time
SHORT = 10.0  # seconds a question that costs nothing may take
HEADER = 2**16  # bytes left for what is not frames


@dataclass
class RemoteReward(Reward):
    """The reward `name` at `place`. What it declares is what its server says, known once it is loaded."""

    name: str
    place: Place
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.process: ServerProcess | None = None
        self._device = "cpu"
        self._starts_left = 1 + self.place.retries
        self._max_bytes = 0

    def load(self, device: str) -> None:
        """Start the interpreter or find the server, and read what it offers. Raises `PluginError` if that fails."""
        self._device, self._starts_left = device, 1 + self.place.retries
        self._ready()
        offer = self._offer()
        if offer.name != self.name:
            raise PluginError(f"Reward {self.name!r}: the server at {self.place.url} offers {offer.name!r} instead.")
        self._max_bytes = offer.max_bytes
        for key in DECLARED:
            setattr(self, key, getattr(offer, key))

    def score(self, inp: RewardInput) -> RewardOutput:
        """The server's answer; where all candidates are more than it takes at once, it is asked several times."""
        self._ready()
        outputs = [unpack_output(self._ask("POST", "/score", pack_input(part))) for part in self._fitting(inp)]
        names = outputs[0].parts
        return RewardOutput(
            torch.cat([output.scores for output in outputs]),
            {name: torch.cat([output.parts[name] for output in outputs]) for name in names},
            None if outputs[0].valid is None else torch.cat([o.valid for o in outputs if o.valid is not None]),
        )

    def reset(self) -> None:
        """Tell the server of a new run; one that cannot be reached has nothing to forget, and `score` will say so."""
        if self._max_bytes and (self.process is None or self.process.is_alive):
            try:
                self._ask("POST", "/reset", b"")
            except UnreachableError:
                return

    def unload(self) -> None:
        """End the interpreter; a server at a URL stays."""
        if self.process is not None:
            self.process.stop()
        self.process = None

    def _ready(self) -> None:
        """Start the interpreter if it does not run. That it died is told once; the next call starts it again."""
        self._tell_if_dead()
        if self.place.python is None or self.process is not None:
            return
        if self._starts_left < 1:
            raise UnreachableError(f"Reward {self.name!r}: its process died {1 + self.place.retries} times.")
        self._starts_left -= 1
        self.process = ServerProcess(self.name, self.place, self.options, self._device)

    def _fitting(self, inp: RewardInput) -> list[RewardInput]:
        """The input in parts the server takes."""
        anchor = 0 if inp.anchor is None else inp.anchor.numel() * inp.anchor.element_size()
        count = len(inp.prompts)
        each = (inp.video.numel() * inp.video.element_size() + anchor) // count + HEADER
        rows = self._max_bytes // each
        if rows < 1:
            raise PluginError(
                f"Reward {self.name!r}: a candidate has {each} bytes, its server takes {self._max_bytes}."
            )
        return [inp.take(range(start, min(start + rows, count))) for start in range(0, count, rows)]

    def _offer(self) -> Offer:
        try:
            return Offer.model_validate_json(self._ask("GET", "/reward", b""))
        except ValidationError as error:
            raise PluginError(
                f"Reward {self.name!r}: what answers at {self._url} is no reward server: {error}."
            ) from error

    @property
    def _url(self) -> str:
        return self.process.url if self.process is not None else str(self.place.url)

    def _ask(self, method: str, path: str, body: bytes) -> bytes:
        """One request. A connection that fails is tried again; a server that is silent too long, or dead, is not."""
        for left in reversed(range(1 + self.place.retries)):
            try:
                return self._once(method, path, body)
            except (OSError, http.client.HTTPException) as error:
                self._tell_if_dead()
                if isinstance(error, TimeoutError) or not left:
                    raise UnreachableError(self._why(error)) from error
                time.sleep(FIRST_PAUSE * 2 ** (self.place.retries - left))
        raise AssertionError  # the last attempt returns or raises

    def _tell_if_dead(self) -> None:
        """Raise for an interpreter that died; the next call starts it again."""
        if self.process is not None and not self.process.is_alive:
            self.unload()
            raise UnreachableError(f"Reward {self.name!r}: its process died.")

    def _why(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"Reward {self.name!r}: {self._url} did not answer in {self.place.timeout:.0f} s."
        return f"Reward {self.name!r}: {self._url} cannot be reached ({type(error).__name__}: {error})."

    def _once(self, method: str, path: str, body: bytes) -> bytes:
        parts = urlsplit(self._url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        timeout = self.place.timeout if path == "/score" else min(SHORT, self.place.timeout)
        # No proxy is asked: the frames are meant for this server alone.
        connection = kind(str(parts.hostname), parts.port, timeout=timeout)
        token = self.process.token if self.process is not None else os.environ.get(TOKEN, "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            connection.request(method, parts.path.rstrip("/") + path, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read(ANSWER_LIMIT)
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise PluginError(f"Reward {self.name!r} at {self._url}: {_reason(response.status, content)}")
        return content


def _reason(status: int, content: bytes) -> str:
    """The server's own words, or its status where it has none."""
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {status}."
