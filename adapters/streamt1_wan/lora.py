"""LoRA files as people have them: the layouts of peft, diffusers, kohya and the original Wan code, with their scales.

A layer's update is ``scale * up @ down``, where the scale is alpha over the rank. Alpha is a tensor beside the halves
(kohya, ComfyUI), or stands in the header of the file (diffusers) or in `adapter_config.json` beside it (peft); where
none of them has it, it equals the rank. Files may also hold whole differences of weights and biases.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from peft.utils.other import get_pattern_key

from streamt1_plugins.api.weights import check_values, find_weights, header_of, listed
from streamt1_plugins.errors import InputError
from streamt1_wan.architecture import nearest
from streamt1_wan.checkpoint import is_diffusers_layout, load, without_wrappers
from streamt1_wan.keys import LORA_FILE as LORA_FILE
from streamt1_wan.keys import diffusers_key, dotted

if TYPE_CHECKING:
    from torch import Tensor

ENTRY = "generator_lora"
CONFIG_FILE = "adapter_config.json"
"""Where peft keeps alpha."""

# peft has the adapter's name ("default") in a plain state dict, and leaves it out when it saves.
_PARTS = {
    "down": re.compile(r"\.(lora_A|lora_down|lora\.down)(\.\w+)?\.weight"),
    "up": re.compile(r"\.(lora_B|lora_up|lora\.up)(\.\w+)?\.weight"),
    "up_bias": re.compile(r"\.(lora_B|lora_up|lora\.up)(\.\w+)?\.bias"),
    "alpha": re.compile(r"\.alpha"),
    "diff": re.compile(r"\.diff"),
    "diff_b": re.compile(r"\.diff_b"),
    "diff_m": re.compile(r"\.diff_m"),
}
_ONE_WORD = re.compile(r"(lora_unet_|lora_transformer_|lycoris_)(?P<module>.+)")
_OTHER_KINDS = {
    "DoRA": ("dora_scale", "lora_magnitude_vector"),
    "LoHa": ("hada_",),
    "LoKr": ("lokr_",),
    "a whole layer": ("modules_to_save",),
}


@dataclass(frozen=True, slots=True)
class Pair:
    """The update of a layer, ``scale * up @ down``: `down` is ``[rank, in]``, `up` is ``[out, rank]``."""

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


@dataclass(frozen=True, slots=True)
class Lora:
    """What a LoRA changes, by diffusers names: `pairs` by layer, `differences` by weight or bias."""

    pairs: dict[str, Pair]
    differences: dict[str, Tensor] = field(default_factory=dict)

    @property
    def config(self) -> LoraConfig:
        """The configuration from which peft builds the pairs, each with its own rank and scale."""
        first = next(iter(self.pairs.values()))
        return LoraConfig(
            r=first.rank,
            lora_alpha=first.scale * first.rank,
            rank_pattern={f"^{name}": pair.rank for name, pair in self.pairs.items() if pair.rank != first.rank},
            alpha_pattern={
                f"^{name}": pair.scale * pair.rank
                for name, pair in self.pairs.items()
                if pair.scale * pair.rank != first.scale * first.rank
            },
            target_modules=sorted(self.pairs),
            lora_dropout=0.0,
        )

    @property
    def halves(self) -> dict[str, Tensor]:
        """The pairs as peft names them."""
        return {
            f"{name}.lora_{side}.weight": half.contiguous()
            for name, pair in self.pairs.items()
            for side, half in (("A", pair.down), ("B", pair.up))
        }

    def describe(self) -> str:
        """Ranks and scales, for people."""
        ranks, scales = ({getattr(pair, name) for pair in self.pairs.values()} for name in ("rank", "scale"))
        differences = f"{len(self.differences)} differences" if self.differences else ""
        return ", ".join(filter(None, (_span("rank", ranks), _span("scale", scales), differences)))

    def added(self, name: str, weight: Tensor, *, pairs: bool = True) -> Tensor:
        """The weight `name` with its difference and, with `pairs`, its low-rank update, in float32."""
        wide = weight.float()
        pair = self.pairs.get(name.removesuffix(".weight")) if pairs and name.endswith(".weight") else None
        if pair is not None:
            update = pair.up.float().flatten(1) @ pair.down.float().flatten(1)
            wide = wide + pair.scale * update.view(wide.shape)
        difference = self.differences.get(name)
        return wide if difference is None else wide + difference.float().view(wide.shape)


def _span(what: str, values: set[float]) -> str:
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{what} {low:g}" if low == high else f"{what}s {low:g} to {high:g}"


def read_lora(path: Path, alpha: float | None = None) -> Lora:
    """Read a LoRA; `alpha` takes the place of the file's.

    Raises `InputError` for a file without one, with parts this cannot apply, or with halves that do not fit.
    """
    if alpha is not None and not math.isfinite(alpha):
        raise InputError(f"The LoRA's alpha has to be a finite number, got {alpha}.")
    content = load(path)
    below = content.get(ENTRY)
    found = below if isinstance(below, Mapping) else content
    tensors = {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}
    parts = _parts(tensors, path)
    for name in ("down", "up", "up_bias", "diff", "diff_b", "diff_m"):
        check_values(parts[name], f"{path}, LoRA")
    pairs = _pairs(parts, _Scales.of(path, parts["alpha"], alpha), path)
    differences = {f"{module}.weight": tensor for module, tensor in parts["diff"].items()}
    differences |= {f"{module}.bias": tensor for module, tensor in parts["diff_b"].items()}
    differences |= {f"{module}.modulation": tensor for module, tensor in parts["diff_m"].items()}
    for module, bias in parts["up_bias"].items():
        if module not in pairs:
            raise InputError(f"{path}: the LoRA of {module!r} has a bias, and no halves.")
        name = f"{module}.bias"
        differences[name] = differences.get(name, torch.zeros(())).float() + pairs[module].scale * bias.float()
    ours = _diffusers_names((*pairs, *differences))
    return Lora(
        {ours[name]: pair for name, pair in pairs.items()},
        {ours[name]: difference for name, difference in differences.items()},
    )


def _parts(tensors: Mapping[str, Tensor], path: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors by what they are and the name of their module, without prefixes."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    other = []
    for name, tensor in tensors.items():
        part, module = _part_of(name)
        if part is None:
            other.append(name)
        elif module in parts[part]:
            raise InputError(f"{path}: two parts of the LoRA are {part!r} of {module!r}, {name!r} is one.")
        else:
            parts[part][module] = tensor
    if other:
        kind = next((kind for kind, marks in _OTHER_KINDS.items() if any(mark in other[0] for mark in marks)), None)
        what = f"{kind}, which is not supported ({other[0]!r})" if kind else f"unknown parts such as {other[0]!r}"
        raise InputError(f"{path} is not a LoRA that can be applied: it has {what}. Known parts: {_KNOWN}.")
    if not tensors:
        raise InputError(f"{path} is not a LoRA: it has no {ENTRY!r} and no tensors. Known parts: {_KNOWN}.")
    return parts


_KNOWN = "lora_A and lora_B, or lora_down and lora_up, with alpha; diff, diff_b"


def _part_of(name: str) -> tuple[str | None, str]:
    for part, pattern in _PARTS.items():
        if (found := re.fullmatch(rf"(?P<module>.+?){pattern.pattern}", name)) is not None:
            module = found["module"]
            word = _ONE_WORD.fullmatch(module)
            return part, dotted(word["module"]) if word else without_wrappers(f"{module}.").removesuffix(".")
    return None, name


def _pairs(parts: Mapping[str, Mapping[str, Tensor]], scales: _Scales, path: Path) -> dict[str, Pair]:
    downs, ups = parts["down"], parts["up"]
    odd = sorted(downs.keys() ^ ups.keys())
    if odd:
        missing = "lora_B (lora_up)" if odd[0] in downs else "lora_A (lora_down)"
        raise InputError(f"{path}: half of the LoRA is missing, {missing} of {listed(odd)}.")
    lone = sorted(parts["alpha"].keys() - downs.keys())
    if lone:
        raise InputError(f"{path}: there is an alpha and no LoRA for {listed(lone)}.")
    for module in downs:
        down, up = downs[module], ups[module]
        if down.ndim < 2 or up.ndim < 2 or down.shape[0] != up.shape[1]:
            raise InputError(
                f"{path}: the halves of the LoRA of {module!r} do not fit: lora_A {list(down.shape)} and lora_B "
                f"{list(up.shape)}, expected [rank, in] and [out, rank]."
            )
    return {module: Pair(downs[module], ups[module], scales(module, downs[module].shape[0])) for module in downs}


@dataclass(frozen=True, slots=True)
class _Scales:
    """The scale of each layer's update: from the option, a tensor of the file, or a configuration of peft's kind."""

    path: Path
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    alpha: float | None

    @classmethod
    def of(cls, path: Path, tensors: Mapping[str, Tensor], alpha: float | None) -> _Scales:
        (file, *_) = find_weights(path).files
        return cls(path, tensors, _config(file), alpha)

    def __call__(self, module: str, rank: int) -> float:
        configured = self._of("r", "rank_pattern", module)
        if configured is not None and configured != rank:
            raise InputError(
                f"{self.path}: the LoRA of {module!r} has rank {rank}, and its configuration has {configured:g}. They "
                "do not belong together."
            )
        found = self.alpha
        if found is None and module in self.tensors:
            found = _number(self.tensors[module], self.path, module)
        if found is None:
            found = self._of("lora_alpha", "alpha_pattern", module)
        if found is None:
            return 1.0
        return found / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def _of(self, name: str, pattern: str, module: str) -> float | None:
        """A number of the configuration, which may have another one for some modules."""
        patterns = self.config.get(pattern) or {}
        try:
            value = patterns.get(get_pattern_key(list(patterns), module), self.config.get(name))
        except re.error as error:
            raise InputError(f"{self.path}: {pattern} of the LoRA's configuration is malformed: {error}.") from error
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InputError(f"{self.path}: the LoRA's configuration has {name} = {value!r}, expected a finite number.")
        return float(value)


def _number(tensor: Tensor, path: Path, module: str) -> float:
    if tensor.numel() != 1 or not math.isfinite(tensor.item()):
        raise InputError(f"{path}: alpha of {module!r} has to be one finite number, got {tensor.tolist()}.")
    return float(tensor.item())


def _config(file: Path) -> Mapping[str, Any]:
    """peft's configuration of a LoRA, from the header of its file or from the file beside it; empty without either."""
    beside, header = file.with_name(CONFIG_FILE), header_of(file).get(LORA_ADAPTER_METADATA_KEY)
    if header is None and not beside.is_file():
        return {}
    where = f"{file}, {LORA_ADAPTER_METADATA_KEY}" if header is not None else str(beside)
    try:
        found = json.loads(header if header is not None else beside.read_text(encoding="utf-8"))
        config = {name.removeprefix("transformer."): value for name, value in found.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{where} is not the configuration of a LoRA, a JSON object: {error}") from error
    unusable = next((name for name in ("use_dora", "use_qalora") if config.get(name)), None)
    if unusable or config.get("peft_type", "LORA") != "LORA":
        raise InputError(f"{where}: {unusable or config['peft_type']} is not supported; only plain LoRA is.")
    wrong = [name for name in ("rank_pattern", "alpha_pattern") if not isinstance(config.get(name) or {}, Mapping)]
    if wrong:
        raise InputError(f"{where}: {wrong[0]} has to hold numbers by module, got {config[wrong[0]]!r}.")
    return config


def _diffusers_names(names: tuple[str, ...]) -> dict[str, str]:
    stays = is_diffusers_layout(f"{name}." for name in names)
    return {name: name if stays else diffusers_key(name) for name in names}


def check_lora(lora: Lora, transformer: Any, what: str) -> None:
    """Raises `InputError` where a layer or weight it changes is not there or has another shape."""
    kinds = (torch.nn.Linear, torch.nn.Conv3d)
    layers = {name: layer for name, layer in transformer.named_modules() if isinstance(layer, kinds)}
    for module, pair in lora.pairs.items():
        if module not in layers:
            raise InputError(f"{what}: the LoRA changes {module!r}, which is no linear layer{nearest(module, layers)}.")
        shape = (pair.up.shape[0], *pair.down.shape[1:])
        if shape != tuple(layers[module].weight.shape):
            expected = list(layers[module].weight.shape)
            raise InputError(f"{what}: the LoRA's {module!r} is {list(shape)}, the layer is {expected}.")
    weights = transformer.state_dict()
    for name, difference in lora.differences.items():
        if name not in weights:
            raise InputError(f"{what}: the LoRA changes {name!r}, which is not there{nearest(name, weights)}.")
        if difference.shape != weights[name].shape:
            sizes = f"is {list(difference.shape)}, the weight is {list(weights[name].shape)}"
            raise InputError(f"{what}: the LoRA's difference of {name!r} {sizes}.")
