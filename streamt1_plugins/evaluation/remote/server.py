"""HTTP server of one reward: `/health`, `/reward` (what it declares), `/score` and `/reset`."""

from __future__ import annotations

import asyncio
import hmac
import socket
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Any

import torch

from streamt1_plugins.errors import InputError, StreamT1Error, foreign_code, needs_extra
from streamt1_plugins.evaluation.remote.wire import TOKEN, Offer, pack_output, unpack_input

with needs_extra("serve", "A reward in another process"):
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from streamt1_plugins.api.reward import Reward

LOOPBACK = ("127.0.0.1", "localhost", "::1")
GRACE = 2  # seconds that requests in progress have to end when the server stops


class RewardServer:
    """HTTP server at `url` around a loaded reward: it scores one request at a time and answers `/health` meanwhile.

    token: secret that every request must carry; without one, the address must be loopback. Raises `InputError` for
    another address without a token, and for an address that is in use.
    """

    def __init__(self, address: tuple[str, int], reward: Reward, offer: Offer, device: str, token: str = "") -> None:
        host = address[0]
        if host not in LOOPBACK and not token:
            why = f"{host} can be reached from other machines"
            raise InputError(f"{why}: set {TOKEN} to a secret on both sides, or use 127.0.0.1.")
        self.reward, self.offer, self.device = reward, offer, device
        self._expected = f"Bearer {token}".encode() if token else b""
        self._turn = asyncio.Lock()
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server(address, family=family, backlog=2048)
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
        failures = dict.fromkeys((HTTPException, StreamT1Error, ClientDisconnect, Exception), _failed)
        self._routes = Starlette(routes=routes, exception_handlers=failures)
        # No lines of output, as failures are in the answers. A connection stays open for a minute between two requests.
        settings: dict[str, Any] = {"log_config": None, "log_level": "critical", "access_log": False}
        settings |= {"timeout_keep_alive": 60, "timeout_graceful_shutdown": GRACE, "lifespan": "off", "ws": "none"}
        self._uvicorn = uvicorn.Server(uvicorn.Config(self._checked, interface="asgi3", **settings))

    def run(self) -> None:
        """Serve until `stop` or Ctrl-C."""
        self._uvicorn.run(sockets=[self._socket])

    def stop(self) -> None:
        """Make `run` return; callable from any thread."""
        self._uvicorn.should_exit = True

    def close(self) -> None:
        """Give the address back."""
        self._socket.close()

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it without the token."""
        given = dict(scope["headers"]).get(b"authorization", b"")
        if self._expected and not hmac.compare_digest(given, self._expected):
            why = f"The token is wrong or missing: set {TOKEN} to the same secret on both sides."
            await JSONResponse({"error": why}, 401)(scope, receive, send)
        else:
            await self._routes(scope, receive, send)

    async def _score(self, request: Request) -> Response:
        """The packed scores of a packed input; its declared length is checked before it is read."""
        declared, limit = request.headers.get("content-length", ""), self.offer.max_bytes
        if not declared.isdecimal() or "transfer-encoding" in request.headers:
            raise HTTPException(411, "The request must declare its Content-Length.")
        if int(declared) > limit:
            raise HTTPException(413, f"The request has {declared} bytes, more than the {limit} allowed (--max-mb).")
        body = await request.body()
        score = torch.inference_mode()(lambda: pack_output(self.reward.score(unpack_input(body).to(self.device))))
        return Response(await self._alone(score), media_type="application/octet-stream")

    async def _reset(self, _: Request) -> Response:
        """Reset the reward before another run, whose frame keys name other pixels."""
        return Response(await self._alone(self.reward.reset))

    async def _alone(self, work: Callable[[], bytes | None]) -> bytes | None:
        """The result of `work`, run while no other work runs, in a thread that does not keep the process alive."""
        result: Future[bytes | None] = Future()

        def settle() -> None:
            if result.set_running_or_notify_cancel():  # cancelled where the server stopped first
                try:
                    with foreign_code(f"Reward {self.offer.name!r}"):
                        result.set_result(work())
                except StreamT1Error as error:
                    result.set_exception(error)

        async with self._turn:
            Thread(target=settle, daemon=True).start()
            return await asyncio.wrap_future(result)


async def _failed(_: Request, error: Exception) -> Response:
    """The answer with the error's message. A client that went away gets none, whatever is returned."""
    if isinstance(error, HTTPException):
        status, why = error.status_code, error.detail
    else:
        status, why = (422, str(error)) if isinstance(error, StreamT1Error) else (500, repr(error))
    return JSONResponse({"error": why}, status)
