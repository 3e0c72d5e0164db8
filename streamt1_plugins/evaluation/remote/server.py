"""HTTP server of one reward: `/health`, `/reward` (what it declares), `/score` and `/reset`."""

from __future__ import annotations

import asyncio
import hmac
import socket
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING

import h11
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamt1_plugins.errors import InputError, StreamT1Error, foreign_code
from streamt1_plugins.evaluation.remote.wire import TOKEN, Failure, Offer, pack_output, unpack_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from streamt1_plugins.api.reward import Reward

LOOPBACK = ("127.0.0.1", "localhost", "::1")
IDLE = 60  # seconds of silence after which a client's connection is closed
GRACE = 2  # seconds that requests in progress have to end when the server stops
BACKLOG = 2048  # connections the system keeps waiting


class RewardServer:
    """HTTP server around a loaded reward: it scores one request at a time and answers `/health` meanwhile.

    token: secret that every request must carry; without one, the address must be loopback. Raises `InputError` for
    another address without a token, and for an address that is in use.
    """

    def __init__(self, address: tuple[str, int], reward: Reward, offer: Offer, device: str, token: str = "") -> None:
        host, port = address
        if host not in LOOPBACK and not token:
            raise InputError(
                f"{host} can be reached from other machines: set {TOKEN} to a secret on both sides, or use 127.0.0.1."
            )
        self.reward, self.offer, self.device = reward, offer, device
        self._turn = asyncio.Lock()
        self._socket = _listening(host, port)
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self._app(token),
                http=_IdleTimeout,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # failures are in the answers; a line for each candidate would bury the rest
                access_log=False,
                timeout_keep_alive=IDLE,
                timeout_graceful_shutdown=GRACE,
            )
        )

    @property
    def port(self) -> int:
        """The port, also where 0 was given."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The address for a client."""
        host = self._socket.getsockname()[0]
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def run(self) -> None:
        """Serve until `stop` or Ctrl-C."""
        self._uvicorn.run(sockets=[self._socket])

    def stop(self) -> None:
        """Make `run` return; callable from any thread."""
        self._uvicorn.should_exit = True

    def close(self) -> None:
        """Give the address back."""
        self._socket.close()

    def score(self, body: bytes) -> bytes:
        """The packed scores of a packed input. Raises `PluginError` for other bytes, or where the reward fails."""
        inp = unpack_input(body)
        with foreign_code(f"Reward {self.offer.name!r}"), torch.inference_mode():
            return pack_output(self.reward.score(inp.to(self.device)))

    def reset(self) -> bytes:
        """Reset the reward before another run, whose frame keys name other pixels."""
        with foreign_code(f"Resetting reward {self.offer.name!r}"):
            self.reward.reset()
        return b""

    def _app(self, token: str) -> Starlette:
        routes = [
            Route("/health", self._get_health),
            Route("/reward", self._get_reward),
            Route("/score", self._post_score, methods=["POST"]),
            Route("/reset", self._post_reset, methods=["POST"]),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(_TokenCheck, token=token)] if token else [],
            exception_handlers=dict.fromkeys((HTTPException, StreamT1Error, ClientDisconnect, Exception), _failed),
        )

    async def _get_health(self, _: Request) -> Response:
        return JSONResponse({"ok": True})

    async def _get_reward(self, _: Request) -> Response:
        return Response(self.offer.model_dump_json(), media_type="application/json")

    async def _post_score(self, request: Request) -> Response:
        body = await _body(request, self.offer.max_bytes)
        return Response(await self._alone(lambda: self.score(body)), media_type="application/octet-stream")

    async def _post_reset(self, _: Request) -> Response:
        return Response(await self._alone(self.reset))

    async def _alone(self, work: Callable[[], bytes]) -> bytes:
        """The result of `work`, run while no other work runs, in a thread that does not keep the process alive."""
        async with self._turn:
            result: Future[bytes] = Future()
            Thread(target=_settle, args=(result, work), daemon=True).start()
            return await asyncio.wrap_future(result)


class _TokenCheck:
    """Middleware that refuses requests without the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(given, self.expected):
            await self.app(scope, receive, send)
        else:
            refusal = _answer(401, f"The token is wrong or missing: set {TOKEN} to the same secret on both sides.")
            await refusal(scope, receive, send)


class _IdleTimeout(H11Protocol):
    """Connection that closes where a client is silent before its request is complete; uvicorn waits for ever."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._restart_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._restart_timer()

    def _restart_timer(self) -> None:
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.transport.close)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InputError(f"Cannot serve on {host}:{port}: {error}. Choose another --port.") from error


def _settle(result: Future[bytes], work: Callable[[], bytes]) -> None:
    if result.set_running_or_notify_cancel():  # cancelled where the server stopped first
        try:
            with foreign_code("The reward server"):
                result.set_result(work())
        except StreamT1Error as error:
            result.set_exception(error)


async def _body(request: Request, limit: int) -> bytes:
    """The request's body. Raises `HTTPException` before reading it where its declared length is over the limit."""
    declared = request.headers.get("content-length", "")
    if not declared.isdecimal() or "transfer-encoding" in request.headers:
        raise HTTPException(411, "The request must declare its Content-Length.")
    if int(declared) > limit:
        raise HTTPException(413, f"The request has {declared} bytes, more than the {limit} allowed (--max-mb).")
    return await request.body()


async def _failed(_: Request, error: Exception) -> Response:
    """The answer with the error's message. A client that went away gets none, whatever is returned."""
    if isinstance(error, HTTPException):
        return _answer(error.status_code, error.detail)
    return _answer(422, str(error)) if isinstance(error, StreamT1Error) else _answer(500, repr(error))


def _answer(status: int, why: str) -> Response:
    return Response(Failure(error=why).model_dump_json(), status, media_type="application/json")
