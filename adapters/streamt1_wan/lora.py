"""LoRA files in peft's layout, as LongLive publishes its own: original Wan module names, no alpha in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig

from streamt1_plugins.errors import InputError
from streamt1_wan.architecture import nearest
from streamt1_wan.checkpoint import load, renamed

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

ENTRY, ADAPTER = "generator_lora", "causal"
LORA_FILE = "pytorch_lora_weights.safetensors"
"""Where diffusers keeps a LoRA beside a pipeline; `CausalWanAdapter.load` applies it when it is there."""

# peft leaves out the adapter's name ("default") when it saves; a plain state dict has it.
_NAME = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank updates by ``module.lora_A.weight`` (``[rank, in]``) and ``module.lora_B.weight`` (``[out, rank]``).

    `alpha` over `rank` scales them; None in the file means alpha equals the rank, as LongLive trains.
    """

    tensors: dict[str, Tensor]
    rank: int
    alpha: float

    @property
    def modules(self) -> list[str]:
        """The names of the layers it changes."""
        return sorted({name.rpartition(".lora_")[0] for name in self.tensors})

    @property
    def config(self) -> LoraConfig:
        """The configuration that peft builds it from."""
        return LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=self.modules, lora_dropout=0.0)


def read_lora(path: Path, alpha: float | None = None) -> Lora:
    """Read a LoRA. Raises `InputError` for a file without one, or with parts this cannot apply."""
    content = load(path)
    below = content.get(ENTRY)
    found = below if isinstance(below, Mapping) else content
    tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    other = [name for name in tensors if not _NAME.fullmatch(name)]
    if other or not tensors:
        what = f"unknown parts such as {other[0]!r}" if other else f"no {ENTRY!r} and no tensors"
        raise InputError(f"{path} is not a LoRA in peft's layout (lora_A, lora_B): it has {what}.")
    sides = {side: _side(tensors, side, path) for side in "AB"}
    if sides["A"].keys() != sides["B"].keys():
        odd = sorted(sides["A"].keys() ^ sides["B"].keys())
        raise InputError(f"{path}: half of the LoRA is missing for {', '.join(odd[:3])}.")
    ranks = {tensor.shape[0] for tensor in sides["A"].values()}
    if len(ranks) > 1:
        raise InputError(f"{path} mixes the ranks {sorted(ranks)}; one rank for all layers is supported.")
    named = {f"{module}.lora_{side}.weight": x for side, half in sides.items() for module, x in half.items()}
    rank = ranks.pop()
    return Lora(named, rank, float(rank if alpha is None else alpha))


def _side(tensors: Mapping[str, Tensor], side: str, path: Path) -> dict[str, Tensor]:
    """One half by diffusers module name."""
    halves = {
        f"{m['module']}.weight": x for name, x in tensors.items() if (m := _NAME.fullmatch(name)) and m["side"] == side
    }
    return {name.removesuffix(".weight"): tensor for name, tensor in renamed(halves, path).items()}


def check_lora(lora: Lora, transformer: Any, what: str) -> None:
    """Raises `InputError` where a layer it changes is not there or has another shape."""
    layers = {name: layer for name, layer in transformer.named_modules() if isinstance(layer, torch.nn.Linear)}
    for module in lora.modules:
        if module not in layers:
            raise InputError(f"{what}: the LoRA changes {module!r}, which is no linear layer{nearest(module, layers)}.")
        down, up = (lora.tensors[f"{module}.lora_{side}.weight"] for side in "AB")
        shape = (up.shape[0], down.shape[1])
        if shape != tuple(layers[module].weight.shape):
            expected = list(layers[module].weight.shape)
            raise InputError(f"{what}: the LoRA's {module!r} is {list(shape)}, the layer is {expected}.")


def merge(transformer: Any, lora: Lora) -> None:
    """Add the updates to the weights, which should be float32: each is then rounded once, when they are saved."""
    transformer.load_lora_adapter(lora.tensors, prefix=None, adapter_name=ADAPTER, metadata=lora.config.to_dict())
    transformer.fuse_lora(safe_fusing=True)
    transformer.unload_lora()
