"""State dicts: read without running pickled code, LoRA merged by hand, wrong keys and broken numbers named."""

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
SHOWN = 5  # keys named in an error; the rest is counted


def read_state(path: Path) -> State:
    """The tensors of a safetensors or PyTorch file, on the processor. Raises `PluginError` for anything else."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise PluginError(f"{path} is not a file of plain tensors: {error}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not (isinstance(loaded, dict) and all(isinstance(value, torch.Tensor) for value in loaded.values())):
        raise PluginError(f"{path} holds no state dict (names and tensors).")
    return dict(loaded)


def split(state: State, prefix: str) -> tuple[State, State]:
    """The tensors under `prefix`, without it, and all others."""
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return inside, {name: value for name, value in state.items() if not name.startswith(prefix)}


def merge_lora(state: State, scale: float) -> State:
    """Plain weights from a state dict as PEFT saves it: ``W + scale * B @ A``, computed in float32.

    Modules PEFT saved whole replace the originals. Raises `PluginError` for a LoRA factor without its partner or layer.
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
    """Raise `PluginError` that lists the keys a checkpoint lacks, and those nobody asked for."""
    found = {"lacks": sorted(missing), "has unknown": sorted(unexpected)}
    words = [f"{verb} {_listed(names)}" for verb, names in found.items() if names]
    if words:
        raise PluginError(f"{what} {' and '.join(words)}: it is not the checkpoint this reward was written for.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def load_strictly(module: nn.Module, state: State, what: str) -> None:
    """Load all of `state` into `module`; names and shapes must match. Raises `PluginError`."""
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
    """Raise `PluginError` naming the weights that hold NaN or infinity: a damaged file must not rank anything."""
    broken = [name for name, value in module.state_dict().items() if not bool(value.isfinite().all())]
    if broken:
        raise PluginError(f"{what} holds NaN or infinite numbers in {_listed(broken)}; download it again.")
