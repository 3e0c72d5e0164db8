"""What a run needs to go on after a crash: latents, noise and the generator, written whole after every chunk.

``state/ID.safetensors`` holds the clean latents of one committed node, ``state/head.safetensors`` the rest. Keys and
values, frames and decoder states are not kept: committing the same latents again gives the same ones.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from streamt1_plugins.api.run import Run
    from streamt1_plugins.api.tree import Tree

STATE, HEAD = "state", "head"
SCHEMA = 1
ROOT = ""
"""Stands among node ids for what all branches start from."""


@dataclass(frozen=True)
class Saved:
    """The newest state of a run: `chunks` committed, the surviving `beams` by node id, best first."""

    chunks: int
    beams: tuple[str, ...]
    noise: Mapping[str, Tensor]
    generator: Tensor


def save_state(run: Run, folder: Path) -> None:
    """Write the state after the last committed chunk, so that a kill at any moment leaves the old one or the new one.

    Raises `OSError` when it cannot be written; the state of the chunk before is then still there.
    """
    place = folder / STATE
    place.mkdir(exist_ok=True)
    needed = {
        node.id: latents
        for beam in run.beams
        # The chunks a call continues come first and are its own arguments.
        for node, latents in zip(reversed(beam.path), reversed(beam.history.latents), strict=False)
    }
    for name, latents in needed.items():
        if not _file(place, name).exists():
            _write(_file(place, name), {"latents": latents})
    _write(_file(place, HEAD), _head_tensors(run), _head_words(run))
    for file in place.iterdir():
        if file.stem != HEAD and file.stem not in needed:
            file.unlink(missing_ok=True)


def load_state(folder: Path) -> Saved | None:
    """The newest state in a run folder, None where no chunk was committed. Raises `InputError` for a damaged one."""
    path = _file(folder / STATE, HEAD)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            words = file.metadata() or {}
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if words.get("schema") != str(SCHEMA):
        raise InputError(f"{path} has schema {words.get('schema')}; this version of streamt1-plugins reads {SCHEMA}.")
    generator = tensors.pop("generator")
    return Saved(int(words["chunks"]), tuple(json.loads(words["beams"])), tensors, generator)


def restore(run: Run, saved: Saved, tree: Tree, folder: Path) -> None:
    """Give a fresh run the beams, the tree and the generator of a saved one; memory is computed again, bit by bit."""
    run.tree = tree
    made = {ROOT: Beam(run.session.root())}
    run.beams = tuple(_beam(run, name, saved, made, folder) for name in saved.beams)
    # Last, so that nothing above can advance it.
    run.call["generator"].set_state(saved.generator)


def _beam(run: Run, name: str, saved: Saved, made: dict[str, Beam], folder: Path) -> Beam:
    """Walk to a node; branches share what they have in common, as they did before."""
    beam = made[ROOT]
    for node in run.tree.path(name):
        if node.id not in made:
            latents = _latents(folder / STATE, node.id).to(run.device)
            decoded = run.session.decode(beam.history, latents)[0]
            history = run.session.commit(beam.history, latents, decoded, node.route or "discard")
            noise = saved.noise[node.id].to(run.device) if node.id in saved.noise else None
            made[node.id] = Beam(history, (*beam.path, node), noise, node.rank or 0)
        beam = made[node.id]
    return beam


def _latents(place: Path, name: str) -> Tensor:
    path = _file(place, name)
    try:
        latents: Tensor = load_file(path)["latents"]
        return latents
    except (OSError, SafetensorError) as error:
        raise InputError(f"The saved state is not complete: {path} cannot be read ({error}).") from error


def _head_tensors(run: Run) -> dict[str, Tensor]:
    noise = {beam.path[-1].id: beam.noise for beam in run.beams if beam.noise is not None}
    return {**noise, "generator": run.call["generator"].get_state()}


def _head_words(run: Run) -> dict[str, str]:
    beams = [beam.path[-1].id for beam in run.beams]
    return {"schema": str(SCHEMA), "chunks": str(run.beams[0].history.index), "beams": json.dumps(beams)}


def _file(place: Path, name: str) -> Path:
    return place / f"{name}.safetensors"


def _write(path: Path, tensors: Mapping[str, Tensor], words: dict[str, str] | None = None) -> None:
    """Whole or not at all, also when the power fails."""
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, words)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """A rename is only safe on the disk when its folder is."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
