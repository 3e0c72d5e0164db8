"""HTTP connection to a reward server, with the extra `serve`'s httpx."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import httpx
from pydantic import ValidationError

from streamt1_plugins.errors import PluginError, UnreachableError
from streamt1_plugins.evaluation.remote.wire import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.config.rewards import Place

ANSWER_LIMIT = 2**24  # bytes; an answer is a few numbers per candidate
PIECE = 2**18  # bytes given to the socket at once
FIRST_PAUSE = 0.2  # seconds before the first retry, doubled each time
QUICK = 10.0  # seconds for a request without a body, which computes nothing


class Connection:
    """Requests to the server at `url`. It uses no proxy: the frames are meant for this server alone.

    label: what error messages begin with. token: the server's secret, empty for none. place: has the time and the
    number of retries of a request.
    """

    def __init__(self, label: str, url: str, token: str, place: Place) -> None:
        self.label, self.url, self.place = label, url, place
        headers = {b"Authorization": b"Bearer " + token.encode()} if token else {}
        try:
            # The context trusts what the system trusts, and SSL_CERT_FILE; httpx alone would trust neither.
            self._client = httpx.Client(
                base_url=url, headers=headers, verify=ssl.create_default_context(), trust_env=False
            )
        except httpx.InvalidURL as error:
            raise PluginError(f"{label}: {url!r} is not a URL ({error}). Example: http://127.0.0.1:8700.") from error

    def get(self, path: str) -> bytes:
        """The answer to a GET request."""
        return self._request("GET", path, b"")

    def post(self, path: str, body: bytes = b"") -> bytes:
        """The answer to a POST request."""
        return self._request("POST", path, body)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _request(self, method: str, path: str, body: bytes) -> bytes:
        """The answer. A connection that fails is tried again, which httpx does only where it cannot be opened.

        Raises `UnreachableError` where all attempts fail, or at once where the server is silent for too long.
        """
        seconds = self.place.timeout if body else min(QUICK, self.place.timeout)
        for attempt in range(1 + self.place.retries):
            if attempt:
                time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))
            try:
                return self._once(method, path, body, seconds)
            except httpx.TimeoutException as error:
                raise UnreachableError(f"{self.label}: no answer from {self.url} in {seconds:g} s.") from error
            except httpx.TransportError as error:
                failed = error
        raise UnreachableError(
            f"{self.label}: {self.url} cannot be reached ({type(failed).__name__}: {failed})."
        ) from failed

    def _once(self, method: str, path: str, body: bytes, seconds: float) -> bytes:
        content, headers = (_pieces(body), {"Content-Length": str(len(body))}) if body else (None, {})
        with self._client.stream(method, path, content=content, headers=headers, timeout=seconds) as response:
            answer = bytearray()
            for piece in response.iter_bytes():
                answer += piece
                if len(answer) > ANSWER_LIMIT:
                    raise PluginError(f"{self.label}: the answer of {self.url} has more than {ANSWER_LIMIT} bytes.")
        if response.status_code != httpx.codes.OK:
            raise PluginError(f"{self.label} at {self.url}: {_reason(response.status_code, bytes(answer))}")
        return bytes(answer)


def _pieces(body: bytes) -> Iterator[bytes]:
    """The body in pieces; of a body sent as one, httpx copies the rest after every write to the socket."""
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


def _reason(status: int, content: bytes) -> str:
    """The server's message, or the status where there is none."""
    try:
        return Failure.model_validate_json(content).error
    except ValidationError:
        return f"HTTP status {status}."
