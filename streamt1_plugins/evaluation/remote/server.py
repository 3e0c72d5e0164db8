"""Serves one reward over HTTP: `/health`, `/reward` (what it is) and `/score`."""

from __future__ import annotations

import hmac
import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.errors import InputError, PluginError, foreign_code
from streamt1_plugins.evaluation.remote.wire import TOKEN, Offer, pack_output, unpack_input

if TYPE_CHECKING:
    from streamt1_plugins.api.reward import Reward

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RewardServer(ThreadingHTTPServer):
    """Answers for one loaded reward, one score at a time; health is answered meanwhile.

    token: a secret every request must bring; without one only this machine may ask. Raises `InputError` for an
    address that is open to others without a token, or that cannot be had.
    """

    daemon_threads = True

    def __init__(self, address: tuple[str, int], reward: Reward, offer: Offer, device: str, token: str = "") -> None:
        host, port = address
        if host not in LOOPBACK and not token:
            raise InputError(
                f"{host} can be reached by others: set {TOKEN} to a secret on both sides, or stay on loopback."
            )
        self.reward, self.offer, self.device, self.token, self.lock = reward, offer, device, token, Lock()
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise InputError(f"Cannot serve on {host}:{port}: {error}. Choose another --port.") from error

    @property
    def url(self) -> str:
        """Where it can be asked."""
        return f"http://{self.server_address[0]!s}:{self.server_port}"

    def score(self, body: bytes) -> bytes:
        """One request's answer. Raises `PluginError` where the request is none, or the reward fails."""
        inp = unpack_input(body).to(self.device)
        with self.lock, foreign_code(f"Reward {self.offer.name!r}"), torch.inference_mode():
            return pack_output(self.reward.score(inp))

    def reset(self) -> None:
        """Another run begins: its frame keys name other pixels."""
        with self.lock, foreign_code(f"Resetting reward {self.offer.name!r}"):
            self.reward.reset()


class _Refused(Exception):
    """A request that is answered with this status."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer
    timeout = 60  # seconds a client may be silent in the middle of a request

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: one line per candidate would bury what matters."""

    def _answer(self, work: Any) -> None:
        try:
            self._check_token()
            self._send(HTTPStatus.OK, work())
        except _Refused as refused:
            self._send(refused.status, _json({"error": str(refused)}))
        except PluginError as error:
            self._send(HTTPStatus.UNPROCESSABLE_ENTITY, _json({"error": str(error)}))

    def _get(self) -> bytes:
        if self.path == "/health":
            return _json({"ok": True})
        if self.path == "/reward":
            return self.server.offer.model_dump_json().encode()
        raise _Refused(HTTPStatus.NOT_FOUND, f"There is no {self.path} here.")

    def _post(self) -> bytes:
        body = self._body()
        if self.path == "/score":
            return self.server.score(body)
        if self.path == "/reset":
            self.server.reset()
            return _json({"ok": True})
        raise _Refused(HTTPStatus.NOT_FOUND, f"There is no {self.path} here.")

    def _check_token(self) -> None:
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.token and not hmac.compare_digest(given.encode(), self.server.token.encode()):
            raise _Refused(HTTPStatus.UNAUTHORIZED, f"The secret is wrong or missing: set {TOKEN} on both sides.")

    def _body(self) -> bytes:
        """The request's body, refused before it is read if it is too large."""
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError as error:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "The request does not tell its length.") from error
        limit = self.server.offer.max_bytes
        if not 0 <= size <= limit:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{size} bytes are more than the {limit} allowed here.")
        body = self.rfile.read(size)
        if len(body) < size:
            raise _Refused(HTTPStatus.BAD_REQUEST, "The request ended early.")
        return body

    def _send(self, status: HTTPStatus, content: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # the client went away; there is nobody left to tell


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
