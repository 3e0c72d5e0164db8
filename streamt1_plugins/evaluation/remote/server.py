"""HTTP server of one reward: `/health`, `/reward` (what it declares), `/score` and `/reset`.

Host, origin and token are checked before the body of a request is read. A request that finds the server full gets
status 503 and the time after which it is worth another try.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.config.trust import is_loopback
from streamt1_plugins.errors import InputError, StreamT1Error, foreign_code, needs_extra
from streamt1_plugins.evaluation.remote.admission import Admission, BusyError, refusal
from streamt1_plugins.evaluation.remote.connection import IDLE_SECONDS, Connection, most_connections
from streamt1_plugins.evaluation.remote.wire import TOKEN, Offer, pack_output, unpack_input

with needs_extra("serve", "A reward in another process"):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from streamt1_plugins.api.reward import Reward

log = logging.getLogger("streamt1")

GRACE = 2  # seconds that requests in progress have to end when the server is stopped
SIGNAL_GRACE = 60  # the same after SIGTERM or Ctrl-C
BACKLOG = 2048  # connections that the system holds until they are accepted
WAITING = 256  # requests that wait or run
BODIES = 2  # bytes of all their bodies together, by bytes of the largest request
BODY_SECONDS, BODY_RATE = 20.0, 2**20  # time that a body has to arrive: these seconds, and one more for so many bytes
RETRY_AFTER = "1"  # seconds


class RewardServer:
    """HTTP server at `url` around a loaded reward: it scores one request at a time and answers `/health` meanwhile.

    token: secret that every request must carry; without one, the address must be loopback. `names`: hosts under which
    it may be called, besides the address. Raises `InputError` for another address without a token, and for an address
    that is in use.
    """

    def __init__(self, address: tuple[str, int], reward: Reward, offer: Offer, device: str, token: str = "") -> None:
        host = address[0].strip("[]")
        if not is_loopback(host) and not token:
            why = f"{host} can be reached from other machines"
            raise InputError(f"{why}: set {TOKEN} to a secret on both sides, or use 127.0.0.1.")
        self.reward, self.offer, self.device = reward, offer, device
        self._expected = f"Bearer {token}".encode() if token else b""
        self.names: Sequence[str] = (host, *(() if is_loopback(host) else (socket.gethostname(),)))
        self._turn = asyncio.Lock()
        self._admission = Admission(WAITING, BODIES * offer.max_bytes)
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, address[1]), family=family, backlog=BACKLOG)
        except OSError as error:
            raise InputError(f"Cannot serve on {host}:{address[1]}: {error}. Choose another --port.") from error
        host, self.port = self._socket.getsockname()[:2]
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        routes = [
            Route("/health", JSONResponse({"ok": True}), methods=["GET"]),
            Route("/reward", lambda _: Response(self.offer.model_dump_json(), media_type="application/json")),
            Route("/score", self._score, methods=["POST"]),
            Route("/reset", self._reset, methods=["POST"]),
        ]
        kinds = (HTTPException, StreamT1Error, BusyError, ClientDisconnect, Exception)
        self._routes = Starlette(routes=routes, exception_handlers=dict.fromkeys(kinds, _failed))
        self._routes.router.redirect_slashes = False
        # No output of uvicorn: a refused or failed request is one line of our own.
        settings: dict[str, Any] = {"log_config": None, "log_level": "critical", "access_log": False}
        settings |= {"http": partial(Connection, {}, most_connections()), "backlog": BACKLOG}
        settings |= {"ws": "none", "lifespan": "off"}
        settings |= {"timeout_keep_alive": int(IDLE_SECONDS), "timeout_graceful_shutdown": SIGNAL_GRACE}
        self._uvicorn = uvicorn.Server(uvicorn.Config(self._checked, interface="asgi3", **settings))

    def run(self) -> None:
        """Serve until `stop`, SIGTERM or Ctrl-C; requests in progress are finished."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        asyncio.get_running_loop().set_exception_handler(_noted)
        await self._uvicorn.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Make `run` return soon, whatever is in progress; callable from any thread."""
        self._uvicorn.config.timeout_graceful_shutdown = GRACE
        self._uvicorn.should_exit = True

    def close(self) -> None:
        """Give the address back."""
        self._socket.close()

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it without having read its body."""
        given = dict(scope["headers"]).get(b"authorization", b"")
        if why := refusal(scope["headers"], scope["server"][0], self.names):
            await _refused(scope, 403, why)(scope, receive, send)
        elif self._expected and not hmac.compare_digest(given, self._expected):
            why = f"The token is wrong or missing: set {TOKEN} to the same secret on both sides."
            await _refused(scope, 401, why)(scope, receive, send)
        else:
            await self._routes(scope, receive, send)

    async def _score(self, request: Request) -> Response:
        """The packed scores of a packed input; its declared length is checked before it is read."""
        declared, limit = request.headers.get("content-length", ""), self.offer.max_bytes
        if not (declared.isascii() and declared.isdecimal()) or "transfer-encoding" in request.headers:
            raise HTTPException(411, "The request must declare its Content-Length.")
        size = int(declared)
        if size > limit:
            raise HTTPException(413, f"The request has {size} bytes, more than the {limit} allowed (--max-mb).")
        with self._admission.admitted(size):
            try:
                body = await asyncio.wait_for(request.body(), BODY_SECONDS + size / BODY_RATE)
            except asyncio.TimeoutError as error:
                raise HTTPException(408, f"The {size} bytes of the request did not arrive in time.") from error
            score = torch.inference_mode()(lambda: pack_output(self.reward.score(unpack_input(body).to(self.device))))
            return Response(await self._alone(request, score), media_type="application/octet-stream")

    async def _reset(self, request: Request) -> Response:
        """Reset the reward before another run, whose frame keys name other pixels."""
        with self._admission.admitted(0):
            return Response(await self._alone(request, self.reward.reset))

    async def _alone(self, request: Request, work: Callable[[], bytes | None]) -> bytes | None:
        """The result of `work`, run while no other work runs, in a thread that does not keep the process alive.

        Raises `ClientDisconnect` instead where the client has left meanwhile.
        """
        result: Future[bytes | None] = Future()

        def settle() -> None:
            if result.set_running_or_notify_cancel():  # cancelled where the server stopped first
                try:
                    with foreign_code(f"Reward {self.offer.name!r}"):
                        result.set_result(work())
                except StreamT1Error as error:
                    result.set_exception(error)

        async with self._turn:
            if await request.is_disconnected():
                raise ClientDisconnect
            Thread(target=settle, daemon=True).start()
            return await asyncio.wrap_future(result)


async def _failed(request: Request, error: Exception) -> Response:
    """The answer with the error's message. A client that went away gets none, whatever is returned."""
    if isinstance(error, HTTPException):
        return _refused(request.scope, error.status_code, error.detail)
    if isinstance(error, BusyError):
        return _refused(request.scope, 503, "The server has as many requests as it can hold.", RETRY_AFTER)
    if isinstance(error, ClientDisconnect):
        return _refused(request.scope, 400, "The client left before its request was answered.")
    status, why = (422, str(error)) if isinstance(error, StreamT1Error) else (500, repr(error))
    return _refused(request.scope, status, why)


def _refused(scope: Scope, status: int, why: str, retry_after: str | None = None) -> Response:
    """The answer to a request that is refused or failed, and one line in the log."""
    client = scope["client"][0] if scope["client"] else "?"
    asked = f"{scope['method']} {scope['path']}"
    log.warning("%.100s from %s: %d, %.400s", asked, client, status, why)
    return JSONResponse({"error": why}, status, None if retry_after is None else {"Retry-After": retry_after})


def _noted(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """One line for what goes wrong beside all requests, such as too many open files."""
    log.warning("The reward server: %s (%r)", context.get("message"), context.get("exception"))
