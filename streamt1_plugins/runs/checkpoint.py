"""Checkpoints: what a run needs to resume (latents, noise, the generator), written whole after every chunk.

``state/ID.safetensors`` holds the clean latents of one committed node, ``state/head.safetensors`` the rest. Keys and
values, frames and decoder states are not kept: committing the same latents again gives the same ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.errors import InputError
from streamt1_plugins.runs.files import STATE, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Generator, Tensor

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.tree import Tree

HEAD = "head"
SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """The newest checkpoint of a run: `chunks` committed, the surviving `beams` by node id, best first."""

    chunks: int
    beams: tuple[str, ...]
    noise: Mapping[str, Tensor]
    generator: Tensor


def save_checkpoint(folder: Path, beams: Sequence[Beam], generator: Generator) -> None:
    """Write the checkpoint of the last committed chunk; a kill at any moment leaves the old one or the new one.

    Raises `OSError` when it cannot be written; the checkpoint of the chunk before is then still there.
    """
    state = folder / STATE
    state.mkdir(exist_ok=True)
    needed = {
        node.id: latents
        for beam in beams
        # The chunks a call continues come first and are its own arguments.
        for node, latents in zip(reversed(beam.path), reversed(beam.history.latents), strict=False)
    }
    for name, latents in needed.items():
        if not _file(state, name).exists():
            _write(_file(state, name), {"latents": latents})
    names = [beam.path[-1].id for beam in beams]
    noise = {name: beam.noise for name, beam in zip(names, beams, strict=True) if beam.noise is not None}
    facts = {"schema": str(SCHEMA), "chunks": str(beams[0].history.index), "beams": json.dumps(names)}
    _write(_file(state, HEAD), {**noise, "generator": generator.get_state()}, facts)
    for file in state.iterdir():
        if file.stem != HEAD and file.stem not in needed:
            file.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in a run folder, None where no chunk was committed.

    Raises `InputError` where it is damaged or a newer version of this package wrote it.
    """
    path = _file(folder / STATE, HEAD)
    if not path.exists():
        return None
    tensors, facts = _read(path)
    if facts.get("schema") != str(SCHEMA):
        raise InputError(f"{path} has schema {facts.get('schema')}; this version of streamt1-plugins reads {SCHEMA}.")
    generator = tensors.pop("generator")
    return Checkpoint(int(facts["chunks"]), tuple(json.loads(facts["beams"])), tensors, generator)


def restored_beams(saved: Checkpoint, folder: Path, tree: Tree, session: Session, device: str) -> tuple[Beam, ...]:
    """The beams of a checkpoint in a run folder, best first; the KV cache is computed again, bit by bit.

    Branches share the chunks they have in common, as they did before.
    """
    root, made = Beam(session.root()), dict[str, Beam]()
    for name in saved.beams:
        beam = root
        for node in tree.path(name):
            if node.id not in made:
                latents = _read(_file(folder / STATE, node.id))[0]["latents"].to(device)
                decoded = session.decode(beam.history, latents)[0]
                history = session.commit(beam.history, latents, decoded, node.route or "discard")
                noise = saved.noise[node.id].to(device) if node.id in saved.noise else None
                made[node.id] = Beam(history, (*beam.path, node), noise, node.rank or 0)
            beam = made[node.id]
    return tuple(made[name] for name in saved.beams)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return load_file(path), file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise InputError(f"The checkpoint is not complete: {path} cannot be read ({error}).") from error


def _file(state: Path, name: str) -> Path:
    return state / f"{name}.safetensors"


def _write(path: Path, tensors: Mapping[str, Tensor], facts: dict[str, str] | None = None) -> None:
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(plain, facts), durable=True)
