"""Reads checkpoints of the causal Wan projects, with the weight names of diffusers.

The layouts: Self-Forcing and Causal-Forcing store ``{"generator": ..., "generator_ema": ...}`` with
names that begin with ``model.`` and may hold FSDP's ``_fsdp_wrapped_module.``; CausVid stores ``generator`` (or
``model``) in a folder's ``model.pt``; LongLive stores ``generator`` and a LoRA of its own. All use the names of the
original Wan code below that; repackaged ones come as flat .safetensors, whole or in shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from streamt1_plugins.api.weights import check_values, find_weights, read_weights
from streamt1_plugins.errors import InputError
from streamt1_wan.keys import diffusers_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

Weights = Literal["ema", "raw"]

_ENTRIES: dict[Weights, tuple[str, ...]] = {"ema": ("generator_ema",), "raw": ("generator", "model")}
_OF_DIFFUSERS = (".attn1.", ".attn2.", ".ffn.net.", ".condition_embedder.", ".proj_out.")
_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
_PREFIXES = ("base_model.", "module.", "generator.", "diffusion_model.", "model.", "transformer.")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights by diffusers name, still on disk where the format allows it, and the entry of the file they came from."""

    tensors: dict[str, Tensor]
    entry: str


def read(path: Path, weights: Weights | None = None) -> Checkpoint:
    """The transformer's weights in a file, in a folder with one, or in shards.

    weights: `ema` or `raw`; None takes the moving average where there is one. Raises `InputError` for a file that is no
    checkpoint, that holds code, that lacks the chosen weights, or has weights that are no finite numbers.
    """
    content = load(path)
    entry = _entry(content, weights, path)
    chosen = content if entry is None else content[entry]
    tensors = {name: value for name, value in chosen.items() if isinstance(value, torch.Tensor)}
    if any(".lora_" in name for name in tensors):
        raise InputError(f"{path} is a LoRA: pass it as --lora, beside the checkpoint it was trained on.")
    check_values(tensors, str(path))
    return Checkpoint(renamed(tensors, path), entry or "the file itself")


def load(path: Path) -> dict[str, Any]:
    """The contents of a file or of a sharded folder; of a diffusers pipeline's folder, its transformer's.

    Raises `InputError` for anything else than weights, see `streamt1_plugins.api.weights`.
    """
    return read_weights(_weights_of(path))


def check_there(path: Path) -> None:
    """Raise `InputError` where a checkpoint is missing, or is no weights. Reads the beginning of its files."""
    find_weights(_weights_of(path))


def _weights_of(path: Path) -> Path:
    return path / "transformer" if (path / "model_index.json").is_file() else path


def _entry(content: Mapping[str, Any], weights: Weights | None, path: Path) -> str | None:
    """The entry to take; None when the weights are not below an entry at all."""
    present = [name for names in _ENTRIES.values() for name in names if isinstance(content.get(name), Mapping)]
    wanted = [name for name in present if weights is None or name in _ENTRIES[weights]]
    if wanted:
        return wanted[0]
    flat = any(isinstance(value, torch.Tensor) for value in content.values())
    if flat and weights != "ema":
        return None
    what = "no weights" if weights is None else f"no {weights!r} weights"
    held = ", ".join(present) if present else "tensors by name" if flat else ", ".join(map(str, content)) or "nothing"
    raise InputError(f"{path} holds {what}: expected one of {_expected(weights)}, found {held}.")


def _expected(weights: Weights | None) -> str:
    kinds = _ENTRIES if weights is None else {weights: _ENTRIES[weights]}
    return ", ".join(name for names in kinds.values() for name in names)


def renamed(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same tensors under diffusers names. Raises `InputError` when two of them would get the same one."""
    plain = {name: without_wrappers(name) for name in tensors}
    convert = (lambda name: name) if is_diffusers_layout(plain.values()) else diffusers_key
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        key = convert(plain[name])
        if key in result:
            raise InputError(f"{path}: two weights are called {key!r} once prefixes are taken off, {name!r} is one.")
        result[key] = tensor
    return result


def is_diffusers_layout(names: Iterable[str]) -> bool:
    """Whether the names are those of diffusers already; some of the original ones would then be mistaken."""
    return any(part in f".{name}" for name in names for part in _OF_DIFFUSERS)


def without_wrappers(name: str) -> str:
    """The name as the model itself has it, below what projects and training tools put in front or between."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    while prefix := next((each for each in _PREFIXES if name.startswith(each)), None):
        name = name.removeprefix(prefix)
    return name
