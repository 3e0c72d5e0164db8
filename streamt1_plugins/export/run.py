"""Writes recorded runs as data, a file of lines per run; a later call writes the runs that are not there yet."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError, guess, shown
from streamt1_plugins.export import records
from streamt1_plugins.export.groups import groups
from streamt1_plugins.export.records import CONTENTS, KINDS
from streamt1_plugins.runs.files import MEGABYTE, alone_in, read_file, write_atomically, writing
from streamt1_plugins.runs.journal import JOURNAL
from streamt1_plugins.runs.recorded import RecordedRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from streamt1_plugins.export.records import Content, Kind
    from streamt1_plugins.export.tensors import TensorWriter

INDEX, DATA, TENSORS = "dataset.json", "data", "tensors"
SCHEMA = 1


@dataclass(frozen=True)
class ExportedRun:
    """What one run gave: its name in the data, how many pairs or groups, and how many tensors its lines name.

    new: it was written by this call, and not by an earlier one.
    """

    name: str
    records: int
    candidates: int
    new: bool = True


def export_runs(
    runs: str | Path | Sequence[str | Path],
    out: str | Path,
    kind: Kind = "preferences",
    tensors: Content = "latents",
    **replaying: Any,
) -> list[ExportedRun]:
    """Write recorded runs to the folder `out` as data for training: JSON lines, and safetensors beside them.

    runs: run folders, or folders with run folders in them. kind: `preferences`, a pair of the best and the worst
    candidate of each history, or `groups`, all its candidates with their advantages (GRPO). tensors: `latents` or
    `frames` (8 bits) of each candidate and of the nodes that it continues; they are made again from their seeds, at the
    cost of the search without its rewards; `none` writes readings and scores alone and loads no model. replaying:
    `pipe`, `device`, `trust` and arguments of the call, as for `regenerate`.

    A folder that holds data of the same kind is continued: runs that it has are left alone. Raises `InputError` for a
    folder that is no run, and `FolderInUseError` while something else writes to `out`.
    """
    recorded = [RecordedRun.read(folder) for folder in run_folders(runs)]
    with opened(out, kind, tensors, replaying) as export:
        return [export.write(each) for each in recorded]


def run_folders(given: str | Path | Sequence[str | Path]) -> list[Path]:
    """The run folders that paths name, each once; of a folder without a run, the runs in it."""
    listed = [given] if isinstance(given, str) or not isinstance(given, (list, tuple)) else given
    found: dict[Path, Path] = {}
    for path in map(user_path, listed):
        is_run = (path / JOURNAL).exists() or not path.is_dir()
        inside = [] if is_run else sorted(each.parent for each in path.glob(f"*/{JOURNAL}"))
        for folder in inside or [path]:
            found.setdefault(folder.resolve(), folder)
    if not found:
        raise InputError("No run to export: name at least one run folder.")
    return list(found.values())


@contextmanager
def opened(out: str | Path, kind: Kind, tensors: Content, replaying: Mapping[str, Any]) -> Iterator[Export]:
    """The folder `out`, for this export alone. Arguments as for `export_runs`.

    Raises `InputError` where the folder cannot take such data, and `FolderInUseError` while another export, or anything
    else, writes to it.
    """
    for argument, value, known in (("kind", kind, KINDS), ("tensors", tensors, CONTENTS)):
        if value not in known:
            expected = " or ".join(map(repr, known))
            raise InputError(f"`{argument}` has to be {expected}, got {shown(value)}.{guess(str(value), known)}")
    folder = user_path(out)
    with alone_in(folder):
        yield Export(folder, kind, tensors, replaying)


class Export:
    """Writes recorded runs to one folder, one after the other; those that the folder has are left alone."""

    def __init__(self, out: Path, kind: Kind, tensors: Content, replaying: Mapping[str, Any]) -> None:
        """Read what the folder has. Raises `InputError` where it cannot take such data."""
        self.out, self.kind = out, kind
        self._index = _index(self.out, kind, tensors)
        self._writer: TensorWriter | None = None
        if tensors != "none":
            from streamt1_plugins.export.tensors import TensorWriter  # here: readings alone need no torch

            self._writer = TensorWriter(tensors, replaying)

    def write(self, recorded: RecordedRun) -> ExportedRun:
        """Write one run: its lines last and whole, so that a killed process leaves no line without its tensors."""
        known = self._index["runs"]
        name = _name(recorded, known)
        is_new = name not in known
        if is_new:
            with writing(f"{self.out} cannot be written"):
                self._note()  # first, so that the folder is known as ours where this process is killed
                known[name] = {**_identity(recorded), **self._write(recorded, name)}
                self._note()
        return ExportedRun(name, known[name]["records"], known[name]["candidates"], is_new)

    def _note(self) -> None:
        """Write which runs the folder has."""
        self.out.mkdir(parents=True, exist_ok=True)
        write_atomically(self.out / INDEX, json.dumps(self._index, indent=1) + "\n")

    def _write(self, recorded: RecordedRun, name: str) -> dict[str, int]:
        """Write one run; returns what its entry in the index counts."""
        found = list(groups(recorded.tree()))
        nodes = {node.id: node for group in found for node in records.shown(self.kind, group)}
        if nodes and self._writer:
            self._writer.write(recorded, nodes.values(), self.out / TENSORS / name)
        lines = [json.dumps(records.record(self.kind, name, recorded, group), allow_nan=False) for group in found]
        path = self.out / DATA / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, "".join(f"{line}\n" for line in lines))
        return {"records": len(lines), "candidates": len(nodes)}


def _index(out: Path, kind: Kind, tensors: Content) -> dict[str, Any]:
    """What the folder holds. Raises `InputError` where that is data of another kind, or none of ours."""
    path = out / INDEX
    if not path.exists():
        if out.is_dir() and any(each for each in out.iterdir() if not each.name.startswith(".")):
            raise InputError(f"{out} holds other files. Name a new or empty folder.")
        return {"schema": SCHEMA, "as": kind, "tensors": tensors, "runs": {}}
    try:
        found: dict[str, Any] = json.loads(read_file(path, 100 * MEGABYTE))
        known = (found["schema"], found["as"], found["tensors"])
        are_counted = all({"records", "candidates", "started"} <= each.keys() for each in found["runs"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Name a new or empty folder.") from error
    if known != (SCHEMA, kind, tensors) or not are_counted:
        raise InputError(
            f"{out} holds {known[1]!r} with {known[2]!r} (schema {known[0]}), and this call writes {kind!r} with "
            f"{tensors!r}. Name another folder."
        )
    return found


def _identity(recorded: RecordedRun) -> dict[str, Any]:
    """What a run is recognised by, wherever its folder is."""
    start = recorded.start
    return {"started": str(start["time"]), "prompt": start["prompt"], "seed": str(start["seed"])}


def _name(recorded: RecordedRun, known: Mapping[str, Mapping[str, Any]]) -> str:
    """The name of a run in the data: that of its folder, with a number where another run has it."""
    own, identity = recorded.folder.resolve().name, _identity(recorded)
    for name, entry in known.items():
        if name.startswith(own) and {key: entry.get(key) for key in identity} == identity:
            return name
    names = (own if number == 1 else f"{own}-{number}" for number in range(1, len(known) + 2))
    return next(name for name in names if name not in known)


def summary(found: Sequence[ExportedRun]) -> dict[str, int]:
    """The sums over all runs."""
    return {name: sum(asdict(each)[name] for each in found) for name in ("records", "candidates")}
