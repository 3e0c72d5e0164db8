"""Checks from names and shapes that weights fit a transformer's configuration, before memory is allocated."""

from __future__ import annotations

import re
from difflib import get_close_matches
from math import prod
from typing import TYPE_CHECKING, Any

from accelerate import init_empty_weights
from diffusers import WanTransformer3DModel

from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

SHOWN = 5
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def empty_transformer(config: Mapping[str, Any]) -> Any:
    """The model of a configuration, without memory for its weights."""
    with init_empty_weights(include_buffers=False):
        return WanTransformer3DModel.from_config(config).eval()


def check(tensors: Mapping[str, Tensor], empty: Any, what: str) -> None:
    """Raises `InputError` unless `tensors` are exactly the weights of the model `empty`; `what` names the two."""
    expected = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    _check_sizes(found, sizes_of(empty.config), what)
    _check_names(found, expected, what)
    wrong = [
        f"{name} {list(found[name])}, expected {list(expected[name])}"
        for name in expected
        if found[name] != expected[name]
    ]
    if wrong:
        raise InputError(f"{what}: {len(wrong)} weights have other shapes: {_shown(wrong)}.")


def sizes_of(config: Any) -> dict[str, int]:
    """The sizes in a configuration, under the names that messages use."""
    return {
        "layers": config.num_layers,
        "width": config.num_attention_heads * config.attention_head_dim,
        "feed-forward width": config.ffn_dim,
        "input channels": config.in_channels,
        "output channels": config.out_channels,
        "text width": config.text_dim,
    }


def sizes_in(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The same sizes derived from weights, where those weights exist."""
    blocks = [int(found[1]) for name in shapes if (found := _BLOCK.match(name))]
    sizes = {"layers": 1 + max(blocks)} if blocks else {}
    patch = shapes.get("patch_embedding.weight")
    if patch is not None and len(patch) > 1:
        sizes |= {"width": patch[0], "input channels": patch[1]}
        if "proj_out.weight" in shapes:
            sizes["output channels"] = shapes["proj_out.weight"][0] // prod(patch[2:])
    for label, name, axis in (
        ("feed-forward width", "blocks.0.ffn.net.0.proj.weight", 0),
        ("text width", "condition_embedder.text_embedder.linear_1.weight", 1),
    ):
        if len(shapes.get(name, ())) == 2:
            sizes[label] = shapes[name][axis]
    return sizes


def _check_sizes(found: Mapping[str, tuple[int, ...]], expected: Mapping[str, int], what: str) -> None:
    other = [
        f"{label} {size} (base {expected[label]})" for label, size in sizes_in(found).items() if size != expected[label]
    ]
    if other:
        raise InputError(f"{what}: another architecture: {', '.join(other)}. Choose the base it was trained from.")


def _check_names(found: Iterable[str], expected: Iterable[str], what: str) -> None:
    missing, unexpected = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if not missing and not unexpected:
        return
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing: {_shown(missing)}")
    if unexpected:
        hints = [name + nearest(name, missing or expected) for name in unexpected[:SHOWN]]
        parts.append(f"{len(unexpected)} unexpected: {_shown(hints, len(unexpected))}")
    raise InputError(f"{what}: the weights do not match by name; {'; '.join(parts)}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """`" (nearest: x)"`, or nothing where no name is near."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (nearest: {close[0]})" if close else ""


def _shown(names: list[str], count: int | None = None) -> str:
    more = (len(names) if count is None else count) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
