"""Checkpoints: what a run needs to resume (latents, noise, the generator), written whole after every chunk.

``state/ID.safetensors`` holds the clean latents of one committed node, ``state/head.safetensors`` the rest and the
digests of those files; the chunk's line in the journal holds the digest of the head. Keys and values, frames and
decoder states are not kept: committing the same latents again gives the same ones.

A new head is first written as ``state/next.safetensors``. From then on a killed process loses nothing. It takes the
place of the old head once it and its latents are on the disk, so that a power cut leaves the old checkpoint or the new
one; the search does not wait for that.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, Json, TypeAdapter, ValidationError
from safetensors import SafetensorError
from typing_extensions import NotRequired, TypedDict

from streamt1_plugins.api.candidate import Beam
from streamt1_plugins.errors import InputError, OutputError
from streamt1_plugins.process.imports import deferred
from streamt1_plugins.runs.files import STATE as STATE  # its readers look for it here
from streamt1_plugins.runs.files import check_plain, flush, read_file, write_atomically
from streamt1_plugins.runs.lines import MAX_CHUNKS, Digest, Id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import safetensors.torch as safetensors_torch
    import torch
    from torch import Generator, Tensor

    from streamt1_plugins.api.adapter import Session
    from streamt1_plugins.api.tree import Tree
else:
    torch, safetensors_torch = deferred("torch"), deferred("safetensors.torch")

Past = Sequence[Sequence[Beam]]
"""The beams before each of the newest chunks, as `Run.past`."""

HEAD, NEXT = "head", "next"
SCHEMA = 1
MAX_BYTES = 2**34
_NODE_FILE = re.compile(r"\d{3,6}\.\d{2,6}\.safetensors")


class _Facts(TypedDict):
    """What the head holds besides tensors. Versions before 0.3 wrote no `files`, the digests by node id. `past` is
    there where a revision may go back.
    """

    chunks: Annotated[int, Field(ge=1, le=MAX_CHUNKS)]
    beams: Json[Annotated[list[Id], Field(min_length=1, max_length=1000)]]
    files: NotRequired[Json[dict[Id, Digest]]]
    past: NotRequired[Json[Annotated[list[Annotated[list[Id], Field(max_length=1000)]], Field(max_length=MAX_CHUNKS)]]]


_FACTS = TypeAdapter(_Facts)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a run: `chunks` committed, the surviving `beams` by node id, best first.

    `files`: the digests of the nodes' latents. `past`: the beams before each of the newest chunks, oldest first, as
    `Run.past`; no names stand for the empty video. `digest`: of all of it.
    """

    chunks: int
    beams: tuple[str, ...]
    noise: Mapping[str, Tensor]
    generator: Tensor
    files: Mapping[str, str]
    past: tuple[tuple[str, ...], ...] = ()

    @property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """The beams by node id, those of the past first."""
        return *self.past, self.beams

    @property
    def facts(self) -> dict[str, str]:
        """What is written beside the tensors of the head."""
        facts: dict[str, Any] = {
            "schema": SCHEMA,
            "chunks": self.chunks,
            "beams": self.beams,
            "files": self.files,
            **({"past": self.past} if self.past else {}),
        }
        return {name: each if isinstance(each, str) else json.dumps(each) for name, each in facts.items()}

    @property
    def digest(self) -> str:
        """The digest of the head, which holds those of the other files."""
        return _digest({**self.noise, "generator": self.generator}, self.facts)


@dataclass
class CheckpointFiles:
    """Writes the checkpoints of one run to its folder. Digests of older chunks are computed once.

    `save` writes one, and `settle`, which any thread may call, brings it to the disk.
    """

    folder: Path
    _digests: dict[str, str] = field(default_factory=dict)
    _written: set[str] = field(default_factory=set)
    _unflushed: set[str] = field(default_factory=set)
    _next: Checkpoint | None = None
    _settling: Any = field(default_factory=Lock, repr=False)

    def of(self, beams: Sequence[Beam], generator: Generator, past: Past = ()) -> Checkpoint:
        """The checkpoint of the last committed chunk, not written yet."""
        every = [*chain.from_iterable(past), *beams]
        for name, latents in _latents(every).items():
            if name not in self._digests:
                self._digests[name] = _digest({"latents": latents})
        noise = {beam.path[-1].id: beam.noise.detach().cpu() for beam in every if beam.noise is not None and beam.path}
        files = {name: self._digests[name] for name in _latents(every)}
        levels = tuple(map(_names, past))
        return Checkpoint(beams[0].history.index, _names(beams), noise, generator.get_state(), files, levels)

    def save(self, checkpoint: Checkpoint, beams: Sequence[Beam], past: Past = ()) -> None:
        """Write the checkpoint `of` these beams; a kill at any moment leaves the old one or the new one.

        Raises `OSError` when it cannot be written; the checkpoint of the chunk before is then still there.
        """
        with suppress(OSError):  # it was reported, and this checkpoint takes its place
            self.settle()
        state = self.folder / STATE
        state.mkdir(exist_ok=True)
        try:
            check_plain(state, folder=True)
        except InputError as error:
            raise OutputError(str(error)) from error
        for name, latents in _latents([*chain.from_iterable(past), *beams]).items():
            if name not in self._written:
                if not _holds(_file(state, name), checkpoint.files[name]):
                    _write(_file(state, name), {"latents": latents})
                self._unflushed.add(name)  # also what a killed process wrote
            self._written.add(name)
        _write(_file(state, NEXT), {**checkpoint.noise, "generator": checkpoint.generator}, checkpoint.facts)
        self._next = checkpoint

    def settle(self) -> None:
        """Bring the checkpoint saved last to the disk, make it the run's, and delete what only older ones need.

        Does nothing where that is done. Raises `OSError` where it fails; the old checkpoint is then still there.
        """
        state = self.folder / STATE
        with self._settling:
            saved = self._next
            if saved is None:
                return
            for path in (*(_file(state, name) for name in sorted(self._unflushed & saved.files.keys())), state):
                flush(path)
            flush(_file(state, NEXT))
            _file(state, NEXT).replace(_file(state, HEAD))
            flush(state)
            self._next = None
            self._unflushed.clear()
            for file in state.iterdir():
                if _NODE_FILE.fullmatch(file.name) and file.name.removesuffix(".safetensors") not in saved.files:
                    file.unlink(missing_ok=True)
            self._written &= saved.files.keys()

    def clear(self) -> None:
        """Delete the checkpoint: the run is back at its start. Raises `OSError` where it cannot be deleted."""
        with self._settling:
            self._next = None
            for name in (HEAD, NEXT):
                _file(self.folder / STATE, name).unlink(missing_ok=True)


def load_unsettled(folder: Path) -> Checkpoint | None:
    """The checkpoint that a killed process had written and not brought to the disk; None where it is not whole."""
    try:
        saved = _load(folder, NEXT)
    except InputError:
        return None
    files = saved.files if saved else {}
    return saved if all(_holds(_file(folder / STATE, name), files[name]) for name in files) else None


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in a run folder, None where no chunk was committed.

    Raises `InputError` where it is damaged or a newer version of this package wrote it.
    """
    return _load(folder, HEAD)


def _load(folder: Path, name: str) -> Checkpoint | None:
    check_plain(folder / STATE, folder=True)
    path = _file(folder / STATE, name)
    check_plain(path)
    if not path.exists():
        return None
    tensors, facts = _read(path)
    if facts.get("schema") != str(SCHEMA):
        schema = str(facts.get("schema"))[:20]
        raise InputError(f"{path} has schema {schema!r}; this version of streamt1-plugins reads {SCHEMA}.")
    generator = tensors.pop("generator", torch.empty(0))
    try:
        found = _FACTS.validate_python(facts)
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"{path} cannot be read ({'.'.join(map(str, problem['loc']))}: {problem['msg']}).") from error
    past = tuple(map(tuple, found.get("past", ())))
    return Checkpoint(found["chunks"], tuple(found["beams"]), tensors, generator, found.get("files", {}), past)


def load_latents(folder: Path, saved: Checkpoint, tree: Tree) -> dict[str, Tensor]:
    """The latents of the nodes that a checkpoint's beams consist of, by node id.

    Raises `InputError` where a file is missing or damaged.
    """
    found: dict[str, Tensor] = {}
    for name in {node.id for beam in chain.from_iterable(saved.levels) for node in tree.path(beam)}:
        path = _file(folder / STATE, name)
        tensors = _read(path)[0]
        if set(tensors) != {"latents"} or saved.files.get(name) not in (None, _digest(tensors)):
            raise InputError(f"{path} is not what the run wrote: its digest is another one.")
        found[name] = tensors["latents"]
    return found


def restored_beams(
    saved: Checkpoint, latents: Mapping[str, Tensor], tree: Tree, session: Session, device: str
) -> tuple[tuple[Beam, ...], ...]:
    """The beams of a checkpoint, best first, after those of its past; the KV cache is computed again, bit by bit.

    Branches share the chunks they have in common, as they did before.
    """
    root, made = Beam(session.root()), dict[str, Beam]()
    for name in chain.from_iterable(saved.levels):
        beam = root
        for node in tree.path(name):
            if node.id not in made:
                clean = latents[node.id].to(device)
                decoded = session.decode(beam.history, clean)[0]
                history = session.commit(beam.history, clean, decoded, node.route or "discard")
                noise = saved.noise[node.id].to(device) if node.id in saved.noise else None
                made[node.id] = Beam(history, (*beam.path, node), noise, node.rank or 0)
            beam = made[node.id]
    return tuple(tuple(made[name] for name in names) or (root,) for names in saved.levels)


def _names(beams: Sequence[Beam]) -> tuple[str, ...]:
    return tuple(beam.path[-1].id for beam in beams if beam.path)


def _latents(beams: Sequence[Beam]) -> dict[str, Tensor]:
    """The clean latents of every node of the beams."""
    return {
        node.id: latents
        for beam in beams
        # The chunks a call continues come first and are its own arguments.
        for node, latents in zip(reversed(beam.path), reversed(beam.history.latents), strict=False)
    }


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, str] | None = None) -> str:
    """A digest of names, types, shapes, bytes and facts, whatever the layout of the file that holds them."""
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _holds(path: Path, digest: str) -> bool:
    """Whether a file holds what has this digest."""
    try:
        return path.exists() and _digest(_read(path)[0]) == digest
    except InputError:
        return False


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    content = read_file(path, MAX_BYTES)
    try:
        tensors = safetensors_torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    # A damaged header may name any type and any shape.
    except (SafetensorError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from error
    return tensors, header.get("__metadata__") or {}


def _file(state: Path, name: str) -> Path:
    return state / f"{name}.safetensors"


def _write(path: Path, tensors: Mapping[str, Tensor], facts: dict[str, str] | None = None) -> None:
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, safetensors_torch.save(plain, facts))
