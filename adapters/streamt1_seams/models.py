"""Checks of a model on this machine before diffusers loads it, and of its weights after."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamt1_plugins.api.weights import SUFFIXES, check_model, check_values, listed
from streamt1_plugins.errors import InputError, UnsupportedPipelineError, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

INDEX = "model_index.json"
VARIANT = re.compile(r"\.([^.]+?)(-\d+-of-\d+)?\.(safetensors|bin)$")


def check_folder(model: str, transformer: str | None = None, *, parts: Sequence[str] = ("",), remedy: str = "") -> None:
    """Raise an error with a way out where `model` is on this machine and cannot be loaded. A hub id is not looked at.

    A file, a folder of another kind, a transformer of another class than `transformer`, weights that were not
    downloaded. parts: folders in it whose weights are needed, by default all. remedy: what makes a folder of a single
    checkpoint, if anything does. Raises `InputError`, and `UnsupportedPipelineError` for another transformer.
    """
    path = Path(model).expanduser()
    if path.is_file():
        raise InputError(f"{path} is a file, and a model is a folder with {INDEX}. {remedy}".strip())
    if not path.is_dir():
        return
    index = _index(path, remedy)
    found = index.get("transformer")
    name = found[-1] if isinstance(found, list) and found else None
    if transformer is not None and name != transformer:
        raise UnsupportedPipelineError(
            f"{path} is a {index.get('_class_name')} with the transformer {name}; this adapter drives {transformer}. "
            "Name another model, or another adapter."
        )
    for part in parts:
        check_model(path / part)


def check_variant(model: str, variant: str) -> None:
    """Raise `InputError` where a folder on this machine has no weights of this variant. A hub id is not looked at."""
    path = Path(model).expanduser()
    if not path.is_dir():
        return
    known = {found[1] for each in path.glob("*/*") if (found := VARIANT.search(each.name))}
    if variant not in known:
        raise unknown_name(f"variant of the weights in {path}", variant, known)


@contextmanager
def explain_missing(model: str, remedy: str = "") -> Iterator[None]:
    """Where a model is neither a folder on this machine nor on the hub, turn the libraries' error into an `InputError`.

    remedy: what makes such a folder.
    """
    try:
        yield
    except OSError as error:
        if Path(model).expanduser().exists():
            raise
        reason = str(error).partition("\n")[0].partition(" (")[0]
        raise InputError(
            f"There is no folder {model!r} in {Path.cwd()}, and the hub has no such model that can be reached "
            f"({reason}). {remedy}".strip()
        ) from error


def check_finite(component: Any, what: str) -> None:
    """Raise `InputError` where a loaded component has weights that are NaN or infinite."""
    weights = {name: tensor for name, tensor in component.state_dict().items() if tensor.is_floating_point()}
    check_values(weights, what)


def _index(folder: Path, remedy: str) -> dict[str, Any]:
    index = folder / INDEX
    if not index.is_file():
        raise InputError(f"{folder} has no {INDEX}, so it is no model in diffusers' format. {_hint(folder, remedy)}")
    try:
        return dict(json.loads(index.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{index} is not the index of a pipeline, a JSON object. Download it again.") from error


def _hint(folder: Path, remedy: str) -> str:
    names = sorted(each.name for each in folder.iterdir())
    if (folder.parent / INDEX).is_file():
        return f"It is a part of the model {folder.parent}: name that."
    nested = [name for name in names if (folder / name / INDEX).is_file()]
    if nested:
        return f"Did you mean {folder / nested[0]}?"
    if remedy and any(name.endswith(SUFFIXES) for name in names):
        return remedy
    return f"It has {listed(names) or 'nothing'}."
