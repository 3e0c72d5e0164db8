"""The studio over HTTP: the page, its wishes, its events, and the files of runs by ids that the studio made."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from streamt1_plugins.errors import InputError, StreamT1Error
from streamt1_studio import files, shelf, wishes
from streamt1_studio.guard import LOCAL_NAMES, Guard
from streamt1_studio.studio import BUSY
from streamt1_studio.view import recorded_view, with_pictures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from streamt1_studio.sitting import Sitting
    from streamt1_studio.studio import Studio

HERE = Path(__file__).parent / "page"
PARTS = {
    "": ("index.html", "text/html"),
    "studio.css": ("studio.css", "text/css"),
    "studio.js": ("studio.js", "text/javascript"),
    "draw.js": ("draw.js", "text/javascript"),
}
"""The files of the page, by the last part of their address."""

HEARTBEAT = 10.0
"""Seconds after which a stream without news sends a line, so that a browser that is gone is noticed."""

COST_SECONDS = 5.0
"""After which a cost that is not known yet is not waited for."""

STRIP_BYTES = 8 * 2**20


def guarded(studio: Studio, token: str, names: Collection[str] = LOCAL_NAMES) -> ASGIApp:
    """The app behind its guard."""
    return Guard(app(studio), token, names)


def app(studio: Studio) -> Starlette:
    """The app of a studio, without the guard."""
    door = Door(studio)
    routes = [
        *(Route(f"/{name}", partial(_part, *part)) for name, part in PARTS.items()),
        Route("/model", door.model),
        Route("/events", door.events),
        Route("/cost", door.cost, methods=["POST"]),
        Route("/takes", door.start, methods=["POST"]),
        Route("/takes/{id}/play", door.play, methods=["POST"]),
        Route("/takes/{id}/{wish}", door.want, methods=["POST"]),
        Route("/runs/{id}", door.run),
        Route("/runs/{id}/open", door.reopen, methods=["POST"]),
        Route("/runs/{id}/branch", door.branch, methods=["POST"]),
        Route("/runs/{id}/strips/{node}", door.strip),
        Route("/runs/{id}/files/{what}", door.download),
    ]
    made = Starlette(routes=routes, exception_handlers={HTTPException: _failed, StreamT1Error: _failed})
    made.router.redirect_slashes = False
    return made


@dataclass
class Door:
    """The answers to the page's requests."""

    studio: Studio

    async def model(self, request: Request) -> Response:
        """What the page offers before anything is begun: model, recipes, words."""
        pipe = self.studio.pipe
        vocabulary = {kind: list(words) for kind, words in (pipe.vocabulary or {}).items()}
        return JSONResponse(
            {
                "model": pipe.recipe.model or type(pipe.pipe).__name__,
                "recipes": self.studio.recipes,
                "recipe": "stream-t1",
                "vocabulary": vocabulary,
            }
        )

    async def cost(self, request: Request) -> Response:
        """What a take would spend, in words, or why it cannot be begun."""
        wish = wishes.read(wishes.Price, await request.body())
        try:
            made = to_thread.run_sync(self.studio.cost, wish.recipe, wish.frames, abandon_on_cancel=True)
            return JSONResponse({"cost": await asyncio.wait_for(made, COST_SECONDS)})
        except asyncio.TimeoutError:
            return JSONResponse({"cost": BUSY})
        except StreamT1Error as error:  # shown beside the recipe: it is no failure of the request
            return JSONResponse({"cost": str(error)})

    async def start(self, request: Request) -> Response:
        """Begin a take."""
        wish = wishes.read(wishes.Start, await request.body())
        sitting = await run_in_threadpool(
            self.studio.start, wish.prompt, wish.recipe, wish.seed, wish.frames, wish.play
        )
        return self._of(sitting)

    async def play(self, request: Request) -> Response:
        """Let the policy decide, or stop."""
        sitting, wish = self._sitting(request), wishes.read(wishes.Play, await request.body())
        self.studio.play(sitting, wish.on)
        return self._of(sitting)

    async def want(self, request: Request) -> Response:
        """Have one of the jobs of a take done."""
        sitting = self._sitting(request)
        kind = wishes.JOBS.get(request.path_params["wish"])
        if kind is None:
            raise HTTPException(404, "There is no such address.")
        self.studio.want(sitting, *wishes.read(kind, await request.body()).job())
        return self._of(sitting)

    async def run(self, request: Request) -> Response:
        """What is recorded of a run."""
        folder = self._folder(request)
        return JSONResponse(await run_in_threadpool(recorded_view, folder, self.studio.shelf.head(folder)))

    async def reopen(self, request: Request) -> Response:
        """Continue a recorded run where it stopped."""
        wish = wishes.read(wishes.Nothing, await request.body())
        assert wish is not None
        return self._of(self.studio.reopened(self._folder(request)))

    async def branch(self, request: Request) -> Response:
        """Begin a take that continues a candidate of a run."""
        wish = wishes.read(wishes.Branch, await request.body())
        return self._of(self.studio.branched(self._folder(request), wish.node))

    async def strip(self, request: Request) -> Response:
        """The film strip of a candidate."""
        folder, node = self._folder(request), request.path_params["node"]
        waiting = next((each.pictures for each in self.studio.sittings.values() if each.folder == folder), {})
        found = files.strips(folder).get(node)
        content = waiting[node][1] if node in waiting else files.read(found[1], STRIP_BYTES) if found else None
        if content is None:
            raise HTTPException(404, "There is no such picture.")
        return Response(content, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    async def download(self, request: Request) -> Response:
        """A file of a run, to be saved and never shown here."""
        folder, what = self._folder(request), request.path_params["what"]
        name, kind = shelf.DOWNLOADS.get(what, ("", ""))
        if not name or not files.is_plain(folder / name):
            raise HTTPException(404, "There is no such file.")
        return FileResponse(folder / name, media_type=kind, filename=f"{folder.name}-{name}")

    async def events(self, request: Request) -> Response:
        """The stream of what changes: all takes and runs, and one of them in full."""
        return StreamingResponse(self._stream(request.query_params.get("take", "")), media_type="text/event-stream")

    async def _stream(self, id: str) -> AsyncIterator[str]:
        told: dict[str, Any] = {}
        with self.studio.bell.listening() as rung:
            while not self.studio.is_closing:
                rung.clear()
                sitting = self.studio.sittings.get(id)
                yield _event(
                    "takes", {"queue": self.studio.queue(), "runs": await self._runs(), "open": sitting is not None}
                )
                if sitting is not None:
                    yield _event(
                        "take",
                        {
                            **await run_in_threadpool(_news, sitting, told),
                            "run": self.studio.shelf.id_of(sitting.folder),
                        },
                    )
                try:
                    await asyncio.wait_for(rung.wait(), HEARTBEAT)
                except asyncio.TimeoutError:
                    yield ": still here\n\n"

    async def _runs(self) -> list[dict[str, Any]]:
        """The runs that are no takes of this studio."""
        taken = {self.studio.shelf.id_of(each.folder) for each in self.studio.sittings.values()}
        return [each for each in await run_in_threadpool(self.studio.shelf.runs) if each["id"] not in taken]

    def _sitting(self, request: Request) -> Sitting:
        found = self.studio.sittings.get(request.path_params["id"])
        if found is None:
            raise HTTPException(404, "There is no such take.")
        return found

    def _folder(self, request: Request) -> Path:
        found = self.studio.shelf.find(request.path_params["id"])
        if found is None:
            raise HTTPException(404, "There is no such run.")
        return found

    def _of(self, sitting: Sitting) -> Response:
        return JSONResponse({"take": sitting.id, "run": self.studio.shelf.id_of(sitting.folder)})


def _news(sitting: Sitting, told: dict[str, Any]) -> dict[str, Any]:
    """What is to be seen of a take, with those of its nodes alone that `told` has not; `told` then has them."""
    view = with_pictures(sitting.view, sitting.folder, sitting.pictures)
    nodes = {node["id"]: node for node in view.get("nodes", [])}
    changed = [node for name, node in nodes.items() if told.get(name) != node]
    told.update(nodes)
    return {**view, **sitting.summary(), "nodes": changed}


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


async def _part(name: str, kind: str, request: Request) -> Response:
    return Response((HERE / name).read_bytes(), media_type=kind)


async def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code)
    return JSONResponse({"error": str(error)}, 422 if isinstance(error, InputError) else 409)
