"""A reward that runs in another process, behind the contract of every reward. Needs the extra `serve`."""

from __future__ import annotations

import ssl
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from pydantic import ValidationError

from streamt1_plugins.api.reward import DECLARED, Reward, RewardInput, RewardOutput
from streamt1_plugins.config.trust import TRUST, is_listed_server, is_loopback
from streamt1_plugins.errors import PluginError, TrustError, UnreachableError, needs_extra
from streamt1_plugins.evaluation.remote.process import ServerProcess
from streamt1_plugins.evaluation.remote.wire import TOKEN, Failure, Offer, pack_input, shared_token, unpack_output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from streamt1_plugins.config.rewards import Place

with needs_extra("serve", "A reward in another process"):
    import httpx

HEADER = 2**16  # bytes of a request reserved for everything but frames
ANSWER_LIMIT = 2**24  # bytes; an answer is a few numbers per candidate
FIRST_PAUSE = 0.2  # seconds before the first retry, doubled each time
MARGIN = 1.0  # seconds after its own timeout that httpx has to report it
LONGEST_PAUSE = 30  # seconds that a busy server can make a request wait for its next try
QUICK = 10.0  # seconds for a request without a body, which computes nothing


class _BusyError(Exception):
    """The server wants the request again, after `seconds`."""

    def __init__(self, retry_after: str) -> None:
        super().__init__(retry_after)
        known = retry_after.isascii() and retry_after.isdecimal()
        self.seconds = max(FIRST_PAUSE, min(int(retry_after), LONGEST_PAUSE) if known else 0)


@dataclass
class RemoteReward(Reward):
    """The reward `name` at `place`. Its declarations are those of its server, read by `load`.

    trusted: whether the user agreed to send the shared secret there, also where the connection is not encrypted.
    """

    name: str
    place: Place
    options: Mapping[str, Any]
    trusted: bool = False

    def __post_init__(self) -> None:
        self.process: ServerProcess | None = None
        self._http: httpx.Client | None = None
        self._url, self._label = str(self.place.url), f"Reward {self.name!r}"
        self._run, self._failures, self._last = uuid4().hex, 0, ""

    def load(self, device: str) -> None:
        """Start the interpreter or find the server, and read its offer. Raises `PluginError` if that fails."""
        self._device = device
        try:
            offer = Offer.model_validate_json(self._patiently("GET", "/reward"))
        except ValidationError as error:
            raise PluginError(f"{self._label}: {self._url} is not a reward server: {error}.") from error
        if offer.name != self.name:
            raise PluginError(f"{self._label}: the server at {self._url} offers {offer.name!r} instead.")
        self._max_bytes = offer.max_bytes
        vars(self).update(offer.model_dump(include=set(DECLARED)))

    def score(self, inp: RewardInput) -> RewardOutput:
        """The server's scores, in several requests where one with all candidates would be too large for it."""
        # Frame keys that no other run has: a server may score for several at once.
        keys = tuple(tuple((f"{self._run}/{node}", frame) for node, frame in row) for row in inp.frame_ids)
        parts = self._fitting(replace(inp, frame_ids=keys))
        outputs = [unpack_output(self._patiently("POST", "/score", pack_input(part))) for part in parts]
        return RewardOutput(
            torch.cat([output.scores for output in outputs]),
            {name: torch.cat([output.parts[name] for output in outputs]) for name in outputs[0].parts},
            None if outputs[0].valid is None else torch.cat([o.valid for o in outputs if o.valid is not None]),
        )

    def reset(self) -> None:
        """Reset the server's reward. One that cannot be reached is not an error: frame keys change with the run."""
        self._run, self._failures = uuid4().hex, 0
        if self._http is not None and not self._is_dead:
            with suppress(UnreachableError):
                self._patiently("POST", "/reset")

    def unload(self) -> None:
        """End the interpreter; a server at a URL stays."""
        if self._http is not None:
            self._http.close()
        if self.process is not None:
            self.process.stop()
        self._http = self.process = None

    @property
    def _is_dead(self) -> bool:
        return self.process is not None and not self.process.is_alive

    def _fitting(self, inp: RewardInput) -> list[RewardInput]:
        """The input in parts of at most the size that the server accepts."""
        count = len(inp.prompts)
        each = (inp.video.nbytes + (0 if inp.anchor is None else inp.anchor.nbytes)) // count + HEADER
        rows = self._max_bytes // each
        if rows < 1:
            why = (
                f"a candidate has {each} bytes, its server accepts {self._max_bytes}. Start it with a larger --max-mb."
            )
            raise PluginError(f"{self._label}: {why}")
        return [inp.take(range(start, min(start + rows, count))) for start in range(0, count, rows)]

    def _connected(self) -> httpx.Client:
        """The client of the server; starts the interpreter where it does not run.

        The death of an interpreter is reported once, as `UnreachableError`; the next call starts another one.
        """
        if self._is_dead:
            raise self._failed("its process died.")
        if self._failures > self.place.retries:
            raise UnreachableError(
                f"{self._label}: {self._last} It failed {self._failures} times and is not called again."
            )
        if self._http is None:
            token = None
            if self.place.url is None:
                try:
                    self.process = ServerProcess(self.name, self.place, self.options, self._device)
                except UnreachableError as error:
                    self._failed(str(error))
                    raise
                self._url, token = self.process.url, self.process.token
            # The context trusts what the system trusts, and SSL_CERT_FILE. No proxy: the frames are for this server.
            tls = ssl.create_default_context()
            try:
                token = self._secret() if token is None else token
                headers = {b"Authorization": b"Bearer " + token.encode()} if token else {}
                self._http = httpx.Client(base_url=self._url, headers=headers, verify=tls, trust_env=False)
            except httpx.InvalidURL as error:
                why = f"{self._url!r} is not a URL ({error}). Example: http://127.0.0.1:8700."
                raise PluginError(f"{self._label}: {why}") from error
        return self._http

    def _failed(self, why: str) -> UnreachableError:
        """Count a death or a silence, which cost a call its time; an interpreter is ended. Returns the error for it."""
        self._failures, self._last = self._failures + 1, why
        if self.process is not None:
            self.process.kill()
        self._http = self.process = None
        return UnreachableError(f"{self._label}: {why}")

    def _secret(self) -> str:
        """The shared secret, empty where there is none. Raises `TrustError` rather than send it unencrypted."""
        token, url = shared_token(), httpx.URL(self._url)
        server = f"{url.scheme}://{url.netloc.decode()}"
        is_safe = url.scheme == "https" or is_loopback(url.host) or is_listed_server(server)
        if token and not is_safe and not self.trusted:
            why = f"the secret in {TOKEN} would travel unencrypted to {server}"
            how = f"Use https, or agree with {TRUST}={server} or --trust (Python: trust=True)."
            raise TrustError(f"{self._label}: {why}. {how}")
        return token

    def _patiently(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The answer of `_request`, repeated while the server is busy. Raises `UnreachableError` after the timeout."""
        end = time.monotonic() + self.place.timeout
        while True:
            try:
                return self._request(method, path, body)
            except _BusyError as busy:
                if time.monotonic() + busy.seconds > end:
                    why = f"{self._url} has been busy for {self.place.timeout:g} s (HTTP status 503)."
                    raise UnreachableError(f"{self._label}: {why}") from busy
                time.sleep(busy.seconds)

    def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The answer. A connection that fails is tried again, which httpx does only where it cannot be opened.

        Raises `UnreachableError` where all attempts fail, or where there is no whole answer in time, all attempts
        together; then also at once, without a wait, after more such failures in a run than there are retries.
        """
        seconds = self.place.timeout if body else min(QUICK, self.place.timeout)
        http, end, why = self._connected(), time.monotonic() + seconds, ""
        for attempt in range(1 + self.place.retries):
            # A file: httpx sends it in pieces. Of bytes, it copies the rest after every write to the socket.
            sent = partial(http.stream, method, path, content=BytesIO(body) if body else None, timeout=seconds)
            try:
                return self._within(end, sent)
            except (httpx.TimeoutException, TimeoutError):
                ended = "" if self.process is None else " Its process was ended."
                raise self._failed(f"no answer from {self._url} in {seconds:g} s.{ended}") from None
            except httpx.TransportError as error:
                why = f"{self._url} cannot be reached ({type(error).__name__}: {error})."
            pause = min(FIRST_PAUSE * 2 ** min(attempt, 10), end - time.monotonic())
            if pause <= 0 or attempt == self.place.retries:
                break
            time.sleep(pause)
        if self._is_dead:
            raise self._failed("its process died.")
        raise UnreachableError(f"{self._label}: {why}")

    def _within(self, end: float, send: Callable[[], AbstractContextManager[httpx.Response]]) -> bytes:
        """The answer. Raises `TimeoutError` at `end`: a server that sends byte after byte has no timeout in httpx."""
        result: Future[bytes] = Future()

        def work() -> None:
            try:
                result.set_result(self._answer(send()))
            except Exception as error:  # noqa: BLE001  (raised again by the caller's thread)
                result.set_exception(error)

        Thread(target=work, daemon=True).start()
        try:
            return result.result(max(0.0, end - time.monotonic()) + MARGIN)
        except FutureTimeoutError:
            raise TimeoutError from None

    def _answer(self, sent: AbstractContextManager[httpx.Response]) -> bytes:
        answer = bytearray()
        with sent as response:
            for piece in response.iter_bytes():
                answer += piece
                if len(answer) > ANSWER_LIMIT:
                    raise PluginError(f"{self._label}: the answer of {self._url} has more than {ANSWER_LIMIT} bytes.")
        if response.status_code == httpx.codes.OK:
            return bytes(answer)
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise _BusyError(response.headers.get("Retry-After", ""))
        try:
            why = Failure.model_validate_json(answer).error
        except ValidationError:
            why = f"HTTP status {response.status_code}."
        raise PluginError(f"{self._label} at {self._url}: {why}")
