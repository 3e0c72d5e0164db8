"""Weights from files: safetensors and PyTorch, whole or in shards; no code in a file is run, and errors name the file.

What people have instead of weights is recognised and reported as such: the pointer of a download that never happened,
a web page, an empty file, half a file, some of the shards.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
INDEX = ".index.json"
AGAIN = "Download it again, for example with `hf download REPOSITORY`"
_POINTERS = (b"version https://git-lfs.github.com/spec/", b"# xet version", b"/annex/objects/")
_PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<head", b"<error")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<suffix>\.\w+)")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Source:
    """The files that hold a set of weights. `names`: the file of each tensor, where an index has it."""

    files: tuple[Path, ...]
    names: Mapping[str, str] | None = None


def read_weights(path: Path) -> dict[str, Any]:
    """The contents of a file, of an index of shards, or of a folder with one; mapped from disk where possible.

    Only tensors and plain containers are unpickled. Raises `InputError` for anything else.
    """
    source = find_weights(path)
    if len(source.files) == 1 and source.names is None:
        return _read(source.files[0])
    found: dict[str, Any] = {}
    for file in source.files:
        found |= _read(file)
    missing = [f"{name} (in {file})" for name, file in (source.names or {}).items() if name not in found]
    if missing:
        raise InputError(f"{path}: {listed(missing)} should be in the shards according to their index. {AGAIN}.")
    return found


def find_weights(path: Path) -> Source:
    """The files with the weights of `path`. Raises `InputError` where they are missing, several, or no weights."""
    if path.is_dir():
        path = _in_folder(path)
    if path.name.endswith(INDEX):
        return _sharded(path)
    shard = _SHARD.fullmatch(path.name)
    if shard and int(shard["count"]) > 1:
        return Source(tuple(_siblings(path, shard)))
    check_file(path)
    return Source((path,))


def check_model(folder: Path) -> None:
    """Raise `InputError` where files with weights below a model's folder are missing shards or no weights."""
    for index in sorted(folder.rglob(f"*{INDEX}")):
        _sharded(index)
    for file in sorted(each for suffix in SUFFIXES for each in folder.rglob(f"*{suffix}")):
        check_file(file)


def check_file(file: Path) -> None:
    """Raise `InputError` for a file that is not there, or holds something else than weights, with what to do."""
    if not file.is_file():
        raise _unreadable(file, _absence(file))
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(1024)
    if not head:
        raise _unreadable(file, f"it is empty, because its download did not finish. {AGAIN}.")
    if any(mark in head[:200] for mark in _POINTERS):
        raise _unreadable(
            file,
            f"it is a pointer of {size} bytes to weights that were not downloaded. Run `git lfs pull` in its "
            "repository, or `hf download REPOSITORY`.",
        )
    if head.lstrip(b"\xef\xbb\xbf \r\n\t")[:20].lower().startswith(_PAGES):
        raise _unreadable(
            file,
            "it is a web page, because the download got an error or a login page. Log in (`hf auth login`) and accept "
            f"the model's license on its page if it has one. {AGAIN}.",
        )
    if head.startswith(b"GGUF"):
        raise _unreadable(file, "it is a GGUF file, quantised for other programs. Use the .safetensors of the model.")
    if _is_text(head):
        raise _unreadable(file, f"it is text ({_excerpt(head)}). {AGAIN}.")
    if _is_safetensors(head):
        _check_length(file, size)


def header_of(file: Path) -> dict[str, str]:
    """The metadata in the header of a safetensors file; empty for any other file."""
    with file.open("rb") as stream:
        if not _is_safetensors(stream.read(9)):
            return {}
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return dict(opened.metadata() or {})


def check_values(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise `InputError` with the names of weights that are no real numbers, or that are NaN or infinite."""
    other = [f"{name} ({x.dtype})".replace("torch.", "") for name, x in tensors.items() if not x.is_floating_point()]
    if other:
        raise InputError(
            f"{what}: {listed(other)} should hold floating-point numbers. Quantised weights are not supported."
        )
    broken = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if broken:
        raise InputError(
            f"{what}: NaN or infinite numbers in {listed(broken)}. The file is damaged, or its training failed; take "
            "another one."
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite, in any dtype; True where there is no memory behind them."""
    wide = tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor
    return bool(tensor.is_meta or wide.isfinite().all())


def listed(names: Iterable[str]) -> str:
    """The first names of many, and how many more there are."""
    found = list(names)
    more = len(found) - _SHOWN
    return ", ".join(found[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _in_folder(folder: Path) -> Path:
    """The file or index in a folder that stands for all its weights; of two formats, as on the hub, the safetensors."""
    here = sorted(each for each in folder.iterdir() if each.name.endswith((*SUFFIXES, INDEX)))
    if any(".safetensors" in each.name for each in here):
        here = [each for each in here if ".bin" not in each.suffixes]
    indices = [each for each in here if each.name.endswith(INDEX)]
    families = {(shard["stem"], shard["suffix"]): each for each in here if (shard := _SHARD.fullmatch(each.name))}
    sharded = indices or list(families.values())
    found = sharded + [each for each in here if not each.name.endswith(INDEX) and not _SHARD.fullmatch(each.name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(each.name for each in here) or _nothing(folder)
    raise InputError(f"The folder {folder} should hold one checkpoint, found {names}. Name the file.")


def _nothing(folder: Path) -> str:
    inside = sorted(each.name for each in folder.iterdir())
    return f"none among {listed(inside)}" if inside else "none, it is empty"


def _sharded(index: Path) -> Source:
    if not index.is_file():
        raise _unreadable(index, _absence(index))
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({str(name) for name in names.values()})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{index} is not an index of shards (a JSON object with `weight_map`). {AGAIN}.") from error
    outside = [name for name in files if Path(name).name != name]
    if outside:
        raise InputError(f"{index} names {outside[0]!r}; shards have to lie beside their index.")
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        raise InputError(
            f"{index.parent} lacks {len(missing)} of its {len(files)} shards: {listed(missing)}. Download the rest, "
            "for example with `hf download REPOSITORY`."
        )
    return Source(tuple(map(_checked, (index.parent / name for name in files))), names)


def _siblings(path: Path, shard: re.Match[str]) -> Iterator[Path]:
    """All shards of the set that one belongs to, where there is no index."""
    count, width = int(shard["count"]), len(shard["number"])
    files = [
        path.with_name(f"{shard['stem']}-{number:0{width}}-of-{shard['count']}{shard['suffix']}")
        for number in range(1, min(count, 10_000) + 1)
    ]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"{path} is one of {count} shards, and {len(missing)} of them are missing: {listed(missing)}. Download the "
            "rest, for example with `hf download REPOSITORY`."
        )
    yield from map(_checked, files)


def _checked(file: Path) -> Path:
    check_file(file)
    return file


def _read(file: Path) -> dict[str, Any]:
    check_file(file)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with file.open("rb") as stream:
        head = stream.read(9)
    try:
        found = load_file(file) if _is_safetensors(head) else _unpickled(file)
    except pickle.UnpicklingError as error:
        raise InputError(_unpicklable(file, head, str(error))) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
        raise _unreadable(file, f"it may be cut off or damaged ({error}). {AGAIN}.") from error
    if not isinstance(found, Mapping):
        raise InputError(f"{file} holds a {type(found).__name__}, not weights by name.")
    return dict(found)


def _unpickled(file: Path) -> Any:
    import torch

    if file.suffix == ".safetensors":  # by its name alone, and torch goes by the name
        with file.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        # The old format cannot be mapped.
        return torch.load(file, map_location="cpu", weights_only=True)


def _unpicklable(file: Path, head: bytes, error: str) -> str:
    if not head.startswith((b"PK", b"\x80")):  # neither a zip archive nor a pickle
        return f"{file} cannot be read as weights: it is neither a safetensors nor a PyTorch file. {AGAIN}."
    needed = re.search(r"GLOBAL ([\w.]+)", error)
    return (
        f"{file} holds more than tensors and plain containers{f' ({needed[1]})' if needed else ''}, so reading it "
        "could run its code. Save the weights alone where it was made: torch.save(model.state_dict(), ...)."
    )


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of a header's length, little-endian, and then JSON."""
    return len(head) > 8 and head[8:9] == b"{" and head[5:8] == b"\0\0\0"


def _check_length(file: Path, size: int) -> None:
    """Raise `InputError` where a safetensors file ends before its last tensor."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = stream.read(length) if length < size else b""
    try:
        entries = json.loads(header) if header else {}
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return  # damaged in another way, which reading it reports
    if not header or size < expected:
        of = f" of {expected:,} bytes" if header else " bytes, less than its header"
        raise _unreadable(file, f"it is cut off: it has {size:,}{of}. {AGAIN}.")


def _is_text(head: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\r\n\t" for byte in head[:256])


def _excerpt(head: bytes) -> str:
    line = head.decode("ascii", "replace").strip().splitlines()
    return repr(line[0][:60]) if line else "blank"


def _absence(file: Path) -> str:
    if file.is_dir():
        return "it is a folder, where a file is expected."
    if file.is_symlink():
        return "it is a link to a file that is not there, because its download did not finish. Run the download again."
    folder = file.parent
    if not folder.is_dir():
        return f"it is not there, and neither is the folder {folder}."
    close = get_close_matches(file.name, [each.name for each in folder.iterdir()], n=1, cutoff=0.6)
    return "it is not there." + (f" Did you mean {close[0]!r}?" if close else "")


def _unreadable(file: Path, why: str) -> InputError:
    return InputError(f"{file} cannot be read as weights: {why}")
