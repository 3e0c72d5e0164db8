"""Keeps a run as it happens, so that nothing is lost when it is killed, and so that it can go on."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from streamt1_plugins.runs import journal
from streamt1_plugins.errors import OutputError
from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.runs.files import check_writable
from streamt1_plugins.runs.observers.folder import versions
from streamt1_plugins.runs.checkpoint import save_state
from streamt1_plugins.api.tree import node_record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.types import Chunk, Node
    from streamt1_plugins.api.run import Run

log = logging.getLogger("streamt1")

_ALWAYS_NEW = ("generator",)


@dataclass(eq=False)
class Journal:
    """Writes `journal.jsonl` line by line, and in `state/` what `streamt1_plugins.resume` needs, to the folder `path`.

    path: the run folder, made when the run starts. A folder that already holds a journal is refused.
    state: whether the run can be resumed; costs the latents of the surviving branches on disk.
    """

    path: str
    state: bool = True

    def __post_init__(self) -> None:
        self._journal: journal.Journal | None = None
        self._start = perf_counter()
        self._done = 0

    @hookimpl
    def streamt1_run_started(self, run: Run) -> None:
        folder = Path(self.path)
        check_writable(folder)
        if (folder / journal.JOURNAL).exists() and not run.resumed:
            raise OutputError(f"The folder {self.path} already holds a run. Choose another one, or resume that run.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._journal = journal.Journal(folder / journal.JOURNAL)
            self._begin(run)
        except OSError as error:
            raise OutputError(f"The journal in {self.path} cannot be written: {error.strerror or error}.") from error

    def _begin(self, run: Run) -> None:
        self._start = perf_counter()
        self._done = done = run.beams[0].history.index
        if run.resumed:
            self._add("resumed", {"chunk": done, "versions": versions()})
            return
        self._add("started", started(run))
        # A run that continues another one's node has that node's tree already.
        for index in range(done):
            for node in run.tree.chunk(index):
                self._add("candidate", node_record(node))
            self._add("chunk", self._settled(run, index, run.tree.chunk(index)))
        if run.beams[0].path:
            self._save(run)

    @hookimpl
    def streamt1_candidate_scored(self, candidate: Candidate) -> None:
        self._try_add("candidate", node_record(candidate))

    @hookimpl(trylast=True)
    def streamt1_chunk_selected(self, run: Run, chunk: Chunk) -> None:
        # The line first: state is then never ahead of the journal, and a chunk without state is searched again.
        self._keep_chunk(run, chunk.index)

    @hookimpl
    def streamt1_run_finished(self, run: Run, error: BaseException | None) -> None:
        if self._journal is None:  # the run ended before it started
            return
        done = run.beams[0].history.index
        if done > self._done:  # interrupted between the commit and our turn
            self._keep_chunk(run, done - 1)
        try:
            self._add("finished", self._finished(run, error))
        except OSError as failure:
            raise OutputError(f"The journal in {self.path} could not be finished: {failure}.") from failure
        finally:
            self._journal.close()
            self._journal = None
        if self.state and error is not None:
            stopped = f"Stopped after {done} of {run.session.num_chunks} chunks."
            log.warning("%s Go on with: streamt1 generate --resume %s", stopped, self.path)

    def _keep_chunk(self, run: Run, index: int) -> None:
        """Line and state of the chunk that was just committed."""
        if self._try_add("chunk", self._settled(run, index, run.tree.chunk(index))):
            self._save(run)
        self._done = index + 1

    def _settled(self, run: Run, index: int, nodes: Iterable[Node]) -> dict[str, Any]:
        kept = sorted((node for node in nodes if node.fate == "kept"), key=lambda node: node.rank or 0)
        fates = {fate: [node.id for node in nodes if node.fate == fate] for fate in ("pruned", "invalid")}
        frames = len(run.beams[0].history.frames[index])
        return {"chunk": index, "frames": frames, "kept": [node.id for node in kept], **fates, **self._so_far(run)}

    def _finished(self, run: Run, error: BaseException | None) -> dict[str, Any]:
        problem = None if error is None else f"{type(error).__name__}: {error}".removesuffix(": ")
        tree = run.tree.to_dict()
        return {"winner": tree["winner"], "final": tree["final"], "error": problem, **self._so_far(run)}

    def _so_far(self, run: Run) -> dict[str, Any]:
        cost = asdict(run.cost)
        return {"notes": list(run.tree.notes), "cost": cost, "seconds": round(perf_counter() - self._start, 3)}

    def _add(self, event: str, fields: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.add(event, fields, sync=event != "candidate")

    def _try_add(self, event: str, fields: dict[str, Any]) -> bool:
        """A full disk must not end a run: the line is written with the next one, or its loss is told at the end."""
        try:
            self._add(event, fields)
        except OSError as error:
            log.warning("The journal in %s was not updated: %s", self.path, error)
            return False
        return True

    def _save(self, run: Run) -> None:
        if not self.state:
            return
        try:
            save_state(run, Path(self.path))
        except OSError as error:
            log.warning("%s: this chunk would be searched again after an interruption: %s", self.path, error)


def started(run: Run) -> dict[str, Any]:
    """The first line of a journal: everything that leads to the same run again."""
    call, omitted = recordable(run.call)
    return {
        "schema": journal.SCHEMA,
        "recipe": run.recipe.model_dump(mode="json"),
        "prompt": run.prompt,
        "seed": run.seed,
        "call": call,
        "omitted": omitted,
        "device": run.device,
        "generator_device": run.call["generator"].device.type,
        "chunks": run.session.num_chunks,
        "fps": run.session.fps,
        "versions": versions(),
    }


def recordable(call: Any) -> tuple[dict[str, Any], list[str]]:
    """(the arguments JSON can hold, the names of the others). The generator is in neither: its seed stands for it."""
    kept: dict[str, Any] = {}
    omitted: list[str] = []
    for name, value in call.items():
        if name in _ALWAYS_NEW:
            continue
        if _is_plain(value):
            kept[name] = value
        else:
            omitted.append(name)
    return kept, omitted


def _is_plain(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False
