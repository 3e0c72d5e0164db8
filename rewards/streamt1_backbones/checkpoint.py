"""Reads state dicts without running pickled code, merges LoRA, and checks keys, shapes and values."""

from __future__ import annotations

import pickle
import zipfile
from typing import TYPE_CHECKING

import torch

from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from torch import Tensor, nn

State = dict[str, "Tensor"]
SHOWN = 5  # keys listed in an error; the others are only counted


def read_state(path: Path) -> State:
    """The tensors of a safetensors or PyTorch file, on the CPU. Raises `PluginError` for any other file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise PluginError(f"{path} must be a safetensors or PyTorch file with tensors only: {error}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not (isinstance(loaded, dict) and all(isinstance(value, torch.Tensor) for value in loaded.values())):
        raise PluginError(f"{path} must hold a state dict (tensors by name).")
    return dict(loaded)


def split(state: State, prefix: str) -> tuple[State, State]:
    """The tensors whose names start with `prefix`, which is removed, and all other tensors."""
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return inside, {name: value for name, value in state.items() if not name.startswith(prefix)}


def merge_lora(state: State, scale: float) -> State:
    """Merged weights from a state dict that PEFT saved: ``W + scale * B @ A``, computed in float32.

    Modules that PEFT saved whole replace the originals. Raises `PluginError` where a LoRA factor or its layer is
    missing.
    """
    plain = {_plain_name(name): value for name, value in state.items() if ".original_module." not in name}
    factors = {name: plain.pop(name) for name in list(plain) if ".lora_" in name}
    for layer in sorted({name.partition(".lora_")[0] for name in factors}):
        parts = [factors.get(f"{layer}.lora_{factor}.default.weight") for factor in "AB"]
        weight, (down, up) = plain.get(f"{layer}.weight"), parts
        if weight is None or down is None or up is None:
            raise PluginError(f"The LoRA of {layer!r} is incomplete: it needs lora_A, lora_B and the layer's weight.")
        plain[f"{layer}.weight"] = (weight.float() + scale * (up.float() @ down.float())).to(weight.dtype)
    return plain


def _plain_name(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")


def check_keys(what: str, missing: Collection[str], unexpected: Collection[str]) -> None:
    """Raise `PluginError` with the missing and the unexpected keys of a checkpoint, if there are any."""
    found = {"lacks": sorted(missing), "has unknown": sorted(unexpected)}
    problems = [f"{verb} {_listed(names)}" for verb, names in found.items() if names]
    if problems:
        raise PluginError(f"{what} {' and '.join(problems)}: it is not the checkpoint this reward was written for.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def load_strictly(module: nn.Module, state: State, what: str) -> None:
    """Load `state` into `module`. Raises `PluginError` where names or shapes differ."""
    own = module.state_dict()
    check_keys(what, own.keys() - state.keys(), state.keys() - own.keys())
    wrong = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if value.shape != state[name].shape
    ]
    if wrong:
        raise PluginError(f"{what} has tensors of wrong shape: {_listed(wrong)}.")
    module.load_state_dict(state)


def check_finite(module: nn.Module, what: str) -> None:
    """Raise `PluginError` with the names of weights that hold NaN or infinity, as in a damaged file."""
    broken = [name for name, value in module.state_dict().items() if not bool(value.isfinite().all())]
    if broken:
        raise PluginError(f"{what} holds NaN or infinite numbers in {_listed(broken)}; download it again.")
