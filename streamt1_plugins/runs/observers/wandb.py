"""The run in Weights & Biases: curves by chunk, a table of candidates, videos, and the page of the tree."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from streamt1_plugins.api.hookspecs import hookimpl
from streamt1_plugins.api.tree import node_record
from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.config.trust import is_inside
from streamt1_plugins.errors import PluginError, foreign_code, require
from streamt1_plugins.runs.events import versions
from streamt1_plugins.runs.files import MEGABYTE, STATE, VIDEO, write_atomically
from streamt1_plugins.runs.observers.scalars import Dashboard, chunk_scalars, made_video, run_config
from streamt1_plugins.runs.observers.video import encode_video
from streamt1_plugins.runs.observers.wandb_run import OwnRun
from streamt1_plugins.runs.report import render
from streamt1_plugins.runs.report.strips import draw, encoded, on_host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Chunk, Horizon, Node, Revision

log = logging.getLogger("streamt1")

START_SECONDS, END_SECONDS = 30, 300
STRIP_FRAMES, STRIP_HEIGHT = 5, 64
ID_FILE = "wandb.json"
_FIELDS = ("id", "chunk", "parent", "fate", "rank", "score", "short", "long", "route", "seed", "propagated", "problem")


class Clip(NamedTuple):
    """The frames of a candidate's chunk, by its name."""

    name: str
    frames: Tensor
    fps: float


@dataclass(eq=False)
class Wandb(Dashboard):
    """Logs a run to Weights & Biases. It never breaks the run: a failure is reported once, as a warning.

    Every video is a run of its own, beside any run of the program, which stays the active one.

    project, entity, name, group: as in ``wandb.init``. Under a multi-process launcher only the main process logs, with
    `every_process` each one that makes a video of its own.
    mode: `online`, `offline` or `disabled`; None is wandb's own setting. Without a connection a run is kept offline.
    folder: the run folder; the page of the tree and an artifact are made from it.
    append: continue the wandb run that the folder was logged to, as a resumed run does.
    media_mb: limit for strips and videos together, in megabytes; half of it is for the final video.
    """

    project: str = field(default="streamt1", metadata={"acts": "upload"})
    entity: str | None = field(default=None, metadata={"acts": "upload"})
    name: str | None = field(default=None, metadata={"acts": "text"})
    group: str | None = field(default=None, metadata={"acts": "text"})
    mode: Literal["online", "offline", "disabled"] | None = None
    folder: str | None = field(default=None, metadata={"acts": "write"})
    media_mb: Annotated[float, Field(ge=0)] = 50.0
    append: bool = False
    every_process: bool = False

    def __post_init__(self) -> None:
        """Raise `PluginError` where wandb is missing: a run that is resumed is worth more than its log."""
        super().__post_init__()
        if not self.append:
            require("wandb", "Logging to Weights & Biases", "'streamt1-plugins[wandb]'")

    @hookimpl(trylast=True)  # after the observers that refuse a folder in use
    def streamt1_run_started(self, run: Run) -> None:
        if self.every_process or int(os.environ.get("RANK", "0")) == 0:
            with self._guarded("wandb"):
                self._start({**run_config(run), "versions": versions()}, _readings_of(run))
            self._lap()

    @hookimpl
    def streamt1_candidate_scored(self, run: Run, candidate: Candidate) -> None:
        """Keep a small picture: the frames are gone when the chunk is over."""
        self._finish_failed("wandb")
        self._draw(run, candidate.id, candidate.decoded.frames)

    def _draw(self, run: Run, name: str, frames: Tensor) -> None:
        if self._log is not None and len(frames):  # else another process has them
            run.background.submit("Drawing a strip for wandb", partial(self._keep_strip, name, on_host(frames)))

    def _keep_strip(self, name: str, frames: Tensor) -> None:
        if self._log is None or self._left <= 0:
            return
        with self._guarded("wandb", finish=False):
            picture = draw(frames, STRIP_FRAMES, STRIP_HEIGHT)
            self._left -= len(encoded(picture, "JPEG"))
            self._strips[name] = self._api.Image(picture, caption=name, file_type="jpg")

    @hookimpl
    def streamt1_chunk_selected(self, run: Run, chunk: Chunk, kept: Sequence[Candidate]) -> None:
        self._finish_failed("wandb")
        if self._log is None:
            return
        for beam, candidate in zip(run.beams, kept, strict=True):
            if candidate.previewed or candidate.preview is not None:  # until now its strip was a preview
                self._draw(run, beam.path[-1].id, beam.history.frames[-1])
        with self._guarded("wandb"):
            best = run.beams[0]
            numbers = {**chunk_scalars(run, chunk), "seconds": self._lap()}
            rows = {node.id: self._row(node) for node in run.tree.chunk(chunk.index)}
            clip = Clip(best.path[-1].id, on_host(best.history.frames[-1]), run.session.fps)
            run.background.submit("Logging a chunk to wandb", partial(self._log_chunk, numbers, rows, clip))

    @hookimpl
    def streamt1_revised(self, run: Run, revision: Revision, candidates: Sequence[Candidate]) -> None:
        """Keep the rows of candidates that are abandoned before any was selected."""
        self._finish_failed("wandb")
        if self._log is not None and revision.back_to is not None:
            rows = {each.id: self._row(run.tree.nodes[each.id]) for each in candidates}
            run.background.submit("Keeping candidates for wandb", partial(self._keep_rows, rows))

    def _keep_rows(self, rows: Mapping[str, list[Any]]) -> None:
        if self._log is not None:
            with self._guarded("wandb", finish=False):
                for name, values in rows.items():
                    row = [*values, self._strips.pop(name, None)]
                    self._rows.append(row)
                    self._table.add_data(*row)

    def _log_chunk(self, numbers: Mapping[str, Any], rows: Mapping[str, list[Any]], best: Clip) -> None:
        if self._log is None:
            return
        with self._guarded("wandb", finish=False):
            logged = {**numbers}
            self._keep_rows(rows)
            if self._left > 0:
                content = encode_video(best.frames, best.fps)
                self._left -= len(content)
                logged["best_chunk"] = self._api.Video(BytesIO(content), format="mp4", caption=best.name)
            self._log.log({**logged, "candidates_by_chunk": self._table})

    @hookimpl
    def streamt1_run_finished(self, run: Run, error: BaseException | None) -> None:
        """Log the whole table, the page, the folder as an artifact, and the result as the summary."""
        run.background.wait()
        self._finish_failed("wandb")
        if self._log is None:
            return
        try:
            with self._guarded("wandb", failed=error is not None):  # a video without its page is made
                self._log_end(run, error)
        finally:  # also where Ctrl-C ends an upload
            with self._guarded("wandb"):
                self._finish(failed=error is not None)

    def _row(self, node: Node) -> list[Any]:
        """A candidate for the table: its record, and the raw reading of every reward that judged it."""
        record = node_record(node)
        # Seeds have 63 bits, and a table that JavaScript reads keeps only 53 of a number.
        fields = [str(record[name]) if name == "seed" else record[name] for name in _FIELDS]
        taken = (node.readings.get(horizon, {}).get(name) for horizon, name in self._readings)
        return [*fields, *(None if each is None or not isfinite(each.raw) else each.raw for each in taken)]

    def _log_end(self, run: Run, error: BaseException | None) -> None:
        winner = run.tree.winner
        self._log.summary["winner"] = list(winner)
        self._log.summary["whole_video"] = run.tree.final.get(winner[-1]) if winner else None
        if run.tree.actions:
            self._log.summary["by_hand"] = [each.text for each in run.tree.actions]
        self._log.summary["error"] = None if error is None else f"{type(error).__name__}: {error}"
        self._log.config.update({"video": made_video(run)}, allow_val_change=True)
        for row in self._rows:  # one that was kept may have been abandoned since
            row[_FIELDS.index("fate")] = run.tree.nodes[row[_FIELDS.index("id")]].fate
        self._log.log({"all_candidates": self._api.Table(columns=self._columns, data=self._rows)})
        self._log_video(run)
        if self.folder is not None and Path(self.folder).is_dir():
            page = self._api.Html(render(self.folder), inject=False, data_is_not_path=True)
            self._log.log({"tree": page})
            self._log.log_artifact(self._artifact(Path(self.folder)))

    def _log_video(self, run: Run) -> None:
        """Log the best branch as one video: the file of the run folder, where there is one."""
        chunks = run.beams[0].history.frames if run.beams else ()
        left = self._left + self.media_mb * MEGABYTE / 2
        if not chunks or left <= 0:
            return
        file = Path(self.folder) / VIDEO if self.folder else None
        if file is not None and file.is_file():
            content = file.read_bytes()
        else:
            content = encode_video(chain.from_iterable(chunks), run.session.fps)
        if len(content) <= left:
            self._log.log({"video": self._api.Video(BytesIO(content), format="mp4", caption=run.prompt)})
        else:
            log.warning(
                "wandb: the video has %.1f MB, more than is left of media_mb, and is not logged.",
                len(content) / MEGABYTE,
            )

    def _end(self, ended: Any, failed: bool) -> None:
        self._clear()
        self._own.finish(int(failed))

    def _clear(self) -> None:
        """Forget what was collected, which holds temporary files."""
        self._table: Any = None
        self._rows: list[list[Any]] = []
        self._strips: dict[str, Any] = {}

    def _start(self, config: dict[str, Any], readings: Sequence[tuple[Horizon, str]]) -> None:
        """Open a wandb run, and record which one it is in the run folder. `readings`: what tables have a column for."""
        import wandb

        self._api, self._left = wandb, self.media_mb * MEGABYTE / 2  # bytes of media that chunks may still log
        self._readings = readings
        self._columns = [*_FIELDS, *(f"{horizon}/{name}" for horizon, name in readings), "strip"]
        self._clear()
        known = Path(self.folder) / ID_FILE if self.folder else None
        self._own = self._opened(config, known)
        self._log = self._own.run
        if known:
            known.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(known, json.dumps({"id": self._log.id}) + "\n")
        self._table = wandb.Table(columns=self._columns, log_mode="INCREMENTAL")
        self._log.define_metric("chunk")
        self._log.define_metric("*", step_metric="chunk")

    def _opened(self, config: dict[str, Any], known: Path | None) -> OwnRun:
        """A wandb run, offline where wandb cannot be reached."""
        same_run = {}
        if known and self.append and known.exists():
            same_run = {"id": json.loads(known.read_text(encoding="utf-8"))["id"], "resume": "allow"}
        # How long an upload may delay the end of a run, for versions of wandb with that setting.
        settings = self._api.Settings
        limit = {"finish_timeout": END_SECONDS} if "finish_timeout" in settings.model_fields else {}
        arguments = {
            "project": self.project,
            "entity": self.entity,
            "name": self.name,
            "group": self.group or os.environ.get("TORCHELASTIC_RUN_ID"),
            "config": config,
            "settings": settings(init_timeout=START_SECONDS, console="off", **limit),
            **same_run,
        }
        try:
            with foreign_code("wandb"):
                return OwnRun(mode=self.mode, **arguments)
        except PluginError as error:
            if self.mode == "offline":
                raise
            own, why = OwnRun(mode="offline", **arguments), str(error).rstrip(".")
            log.warning("%s. This run is kept offline; later: wandb sync %s", why, own.run.dir)
            return own

    def _artifact(self, folder: Path) -> Any:
        """The run folder, without the checkpoint, which only resuming needs."""
        artifact = self._api.Artifact(f"run-{self._log.id}", type="streamt1-run")
        for path in sorted(folder.rglob("*")):
            place = path.relative_to(folder)
            is_own = path.is_file() and is_inside(path, folder)  # and no link to a file elsewhere
            if is_own and place.parts[0] != STATE and not path.name.startswith("."):
                artifact.add_file(str(path), name=place.as_posix())
        return artifact


def _readings_of(run: Run) -> list[tuple[Horizon, str]]:
    """The rewards of a run by horizon."""
    return [(horizon, name) for horizon in HORIZONS for name in getattr(run.recipe.rewards, horizon)]
