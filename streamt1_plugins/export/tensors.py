"""The latents or frames of recorded candidates, made again from their seeds, a file per chunk."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from streamt1_plugins.errors import InputError
from streamt1_plugins.process.progress import silenced
from streamt1_plugins.replay import begun_again
from streamt1_plugins.runs.checkpoint import load_checkpoint, load_latents
from streamt1_plugins.runs.files import write_atomically
from streamt1_plugins.search.out_of_memory import explained
from streamt1_plugins.search.retrace import remade

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from streamt1_plugins.api.candidate import Candidate
    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.types import Node
    from streamt1_plugins.export.records import Content
    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.runs.recorded import RecordedRun

log = logging.getLogger("streamt1")


def file_of(chunk: int) -> str:
    """The name of the file with the tensors of a chunk's candidates, each by the id of its node."""
    return f"{chunk:03d}.safetensors"


@dataclass
class TensorWriter:
    """Writes what candidates hold, of one run after the other; a model that several were made with is loaded once.

    latents ``[1, C, F, h, w]`` as the model made them; frames ``[T, 3, H, W]`` in 8 bits. The memory holds one chunk.
    replaying: arguments of `regenerate` besides the run.
    """

    content: Content
    replaying: Mapping[str, Any]
    _loaded: tuple[object, Any] = (None, None)

    def write(self, recorded: RecordedRun, nodes: Iterable[Node], folder: Path) -> None:
        """Write these nodes of a run, and those that they continue, to files by chunk."""
        tree, kept, others = recorded.tree(), _recorded(recorded), 0
        wanted = {step.id: step for node in nodes for step in tree.path(node.id)}
        folder.mkdir(parents=True, exist_ok=True)
        with self._begun(recorded) as (wrapped, run), explained(run), silenced(wrapped.pipe):
            made = remade(wrapped.search(run), tree, list(wanted.values()))
            for chunk, candidates in groupby(made, key=lambda each: each.chunk):
                tensors = {}
                for each in candidates:
                    others += each.id in kept and not torch.equal(each.latents.cpu(), kept[each.id])
                    tensors[each.id] = _content(each, self.content)
                write_atomically(folder / file_of(chunk), save(tensors))
        if others:
            _warn(recorded, others, len(kept.keys() & wanted.keys()))

    @contextmanager
    def _begun(self, recorded: RecordedRun) -> Iterator[tuple[StreamPipeline, Run]]:
        """A recorded run, open, on the model of the run before where both were made with the same."""
        recipe, given = recorded.recipe, dict(self.replaying)
        model = (recipe.model, recipe.adapter, recipe.placement, recorded.start["device"])
        if given.get("pipe") is None and self._loaded[0] == model:
            given["pipe"] = self._loaded[1]
        with begun_again(recorded, **given) as (wrapped, run):
            self._loaded = model, wrapped.pipe
            yield wrapped, run


def _warn(recorded: RecordedRun, others: int, count: int) -> None:
    log.warning(
        "%s: %d of %d recorded latents were made again with other values. Runs come back bit by bit on the machine "
        "and with the versions that made them, and with search.batch: 1.",
        recorded.folder,
        others,
        count,
    )


def _content(candidate: Candidate, content: Content) -> Tensor:
    if content == "latents":
        return candidate.latents.detach().cpu().contiguous()
    return (candidate.decoded.frames.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).contiguous()


def _recorded(recorded: RecordedRun) -> Mapping[str, Tensor]:
    """The latents that the run's checkpoint holds; none where it cannot be read."""
    try:
        saved = load_checkpoint(recorded.folder)
        return load_latents(recorded.folder, saved, recorded.tree()) if saved else {}
    except (InputError, KeyError):
        return {}
