"""Reads state dicts without running pickled code, merges LoRA, and checks keys, shapes and values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamt1_plugins.api.weights import is_finite, read_weights
from streamt1_plugins.errors import InputError, PluginError
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import torch
    from torch import Tensor, nn
else:
    torch = deferred("torch")

State = dict[str, "Tensor"]
SHOWN = 5  # keys listed in an error; the others are only counted


def read_state(path: Path) -> State:
    """The tensors of a file, or of shards, on the CPU. Raises `PluginError` for anything else than weights."""
    try:
        loaded = read_weights(path)
    except InputError as error:
        raise PluginError(str(error)) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    other = [name for name, value in loaded.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise PluginError(f"{path} must hold a state dict, tensors by name; {other[0]!r} is none.")
    return dict(loaded)


def split(state: State, prefix: str) -> tuple[State, State]:
    """The tensors whose names start with `prefix`, which is removed, and all other tensors."""
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return inside, {name: value for name, value in state.items() if not name.startswith(prefix)}


def merge_lora(state: State, scale: float, rank: int | None = None) -> State:
    """Merged weights from a state dict that PEFT saved: ``W + scale * B @ A``, computed in float32.

    `rank` is the one that the scale was worked out with, where it is known. Modules that PEFT saved whole replace the
    originals. Raises `PluginError` where a LoRA factor or its layer is missing, or where they do not fit.
    """
    plain = {_plain_name(name): value for name, value in state.items() if ".original_module." not in name}
    factors = {name: plain.pop(name) for name in list(plain) if ".lora_" in name}
    for layer in sorted({name.partition(".lora_")[0] for name in factors}):
        parts = [factors.get(f"{layer}.lora_{factor}.default.weight") for factor in "AB"]
        weight, (down, up) = plain.get(f"{layer}.weight"), parts
        if weight is None or down is None or up is None:
            raise PluginError(f"The LoRA of {layer!r} is incomplete: it needs lora_A, lora_B and the layer's weight.")
        if down.shape[0] != up.shape[-1] or (up.shape[0], *down.shape[1:]) != tuple(weight.shape):
            sizes = f"lora_A {list(down.shape)}, lora_B {list(up.shape)}, weight {list(weight.shape)}"
            raise PluginError(f"The LoRA of {layer!r} does not fit its layer: {sizes}.")
        if rank not in {None, down.shape[0]}:
            raise PluginError(f"The LoRA of {layer!r} has rank {down.shape[0]}, and its configuration has {rank}.")
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
    """Load `state` into `module`. Raises `PluginError` where names, shapes or kinds of numbers differ, and for NaN."""
    own = module.state_dict()
    check_keys(what, own.keys() - state.keys(), state.keys() - own.keys())
    wrong = [
        f"{name} {tuple(state[name].shape)}, expected {tuple(value.shape)}"
        for name, value in own.items()
        if value.shape != state[name].shape
    ]
    if wrong:
        raise PluginError(f"{what} has tensors of wrong shape: {_listed(wrong)}.")
    whole = [name for name, value in own.items() if value.is_floating_point() and not state[name].is_floating_point()]
    if whole:
        raise PluginError(f"{what} has {state[whole[0]].dtype} numbers, not floating-point ones: {_listed(whole)}.")
    module.load_state_dict(state)
    check_finite(module, what)


def check_finite(module: nn.Module, what: str) -> None:
    """Raise `PluginError` with the names of weights that hold NaN or infinity, as in a damaged file."""
    broken = [name for name, value in module.state_dict().items() if not is_finite(value)]
    if broken:
        raise PluginError(f"{what} holds NaN or infinite numbers in {_listed(broken)}; download it again.")
