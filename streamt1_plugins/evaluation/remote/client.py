"""A reward that runs in another process, behind the contract of every reward."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from pydantic import ValidationError

from streamt1_plugins.api.reward import DECLARED, Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError, UnreachableError
from streamt1_plugins.evaluation.remote import serve_extra
from streamt1_plugins.evaluation.remote.process import ServerProcess
from streamt1_plugins.evaluation.remote.wire import Offer, pack_input, shared_token, unpack_output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.config.rewards import Place
    from streamt1_plugins.evaluation.remote.connection import Connection

HEADER = 2**16  # bytes of a request reserved for everything but frames


@dataclass
class RemoteReward(Reward):
    """The reward `name` at `place`. Its declarations are those of its server, read by `load`."""

    name: str
    place: Place
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.process: ServerProcess | None = None
        self._connection: Connection | None = None
        self._device = "cpu"
        self._starts_left = 1 + self.place.retries
        self._max_bytes = 0
        self._run = uuid4().hex

    def load(self, device: str) -> None:
        """Start the interpreter or find the server, and read its offer. Raises `PluginError` if that fails."""
        self._device, self._starts_left = device, 1 + self.place.retries
        offer = self._offer()
        if offer.name != self.name:
            raise PluginError(f"{self._label}: the server at {self.place.url} offers {offer.name!r} instead.")
        self._max_bytes = offer.max_bytes
        for key in DECLARED:
            setattr(self, key, getattr(offer, key))

    def score(self, inp: RewardInput) -> RewardOutput:
        """The server's scores, in several requests where one with all candidates would be too large for it."""
        inp = self._with_keys_of_this_run(inp)
        outputs = [unpack_output(self._post("/score", pack_input(part))) for part in self._fitting(inp)]
        names = outputs[0].parts
        return RewardOutput(
            torch.cat([output.scores for output in outputs]),
            {name: torch.cat([output.parts[name] for output in outputs]) for name in names},
            None if outputs[0].valid is None else torch.cat([o.valid for o in outputs if o.valid is not None]),
        )

    def reset(self) -> None:
        """Reset the server's reward. One that cannot be reached is not an error: frame keys change with the run."""
        self._run = uuid4().hex
        runs = self.place.url is not None or (self.process is not None and self.process.is_alive)
        if runs and self._max_bytes:
            try:
                self._post("/reset")
            except UnreachableError:
                return

    def unload(self) -> None:
        """End the interpreter; a server at a URL stays."""
        if self._connection is not None:
            self._connection.close()
        if self.process is not None:
            self.process.stop()
        self._connection = self.process = None

    @property
    def _label(self) -> str:
        return f"Reward {self.name!r}"

    def _with_keys_of_this_run(self, inp: RewardInput) -> RewardInput:
        """The input with frame keys that no other run has: a server may score for several at once."""
        keys = tuple(tuple((f"{self._run}/{node}", frame) for node, frame in row) for row in inp.frame_ids)
        return replace(inp, frame_ids=keys)

    def _fitting(self, inp: RewardInput) -> list[RewardInput]:
        """The input in parts of at most the size that the server accepts."""
        anchor = 0 if inp.anchor is None else inp.anchor.numel() * inp.anchor.element_size()
        count = len(inp.prompts)
        each = (inp.video.numel() * inp.video.element_size() + anchor) // count + HEADER
        rows = self._max_bytes // each
        if rows < 1:
            raise PluginError(
                f"{self._label}: a candidate has {each} bytes, its server accepts {self._max_bytes}. "
                "Start it with a larger --max-mb."
            )
        return [inp.take(range(start, min(start + rows, count))) for start in range(0, count, rows)]

    def _offer(self) -> Offer:
        connection = self._connected()
        try:
            return Offer.model_validate_json(connection.get("/reward"))
        except ValidationError as error:
            raise PluginError(f"{self._label}: {connection.url} is not a reward server: {error}.") from error

    def _post(self, path: str, body: bytes = b"") -> bytes:
        try:
            return self._connected().post(path, body)
        except UnreachableError:
            self._raise_if_dead()
            raise

    def _connected(self) -> Connection:
        """The connection to the server; starts the interpreter where it does not run.

        The death of an interpreter is reported once, as `UnreachableError`; the next call starts another one.
        """
        self._raise_if_dead()
        if self._connection is None:
            with serve_extra():
                from streamt1_plugins.evaluation.remote.connection import Connection  # here: httpx is optional
            url, token = self._started() if self.place.url is None else (self.place.url, shared_token())
            self._connection = Connection(self._label, url, token, self.place)
        return self._connection

    def _started(self) -> tuple[str, str]:
        """The URL and the token of a new interpreter."""
        if self._starts_left < 1:
            raise UnreachableError(f"{self._label}: its process died {1 + self.place.retries} times.")
        self._starts_left -= 1
        self.process = ServerProcess(self.name, self.place, self.options, self._device)
        return self.process.url, self.process.token

    def _raise_if_dead(self) -> None:
        if self.process is not None and not self.process.is_alive:
            self.unload()
            raise UnreachableError(f"{self._label}: its process died.")
