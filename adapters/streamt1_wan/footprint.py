"""Estimates the memory of a causal Wan model and a call of it, from configurations and file headers alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from streamt1_plugins.api.adapter import Footprint
from streamt1_plugins.api.routed_memory import capacity
from streamt1_plugins.api.weights import check_file
from streamt1_wan.keys import LORA_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamt1_plugins.api.adapter import MemoryPlan

INDEX = "model_index.json"
FLOAT32 = 4
"""Bytes of a number in float32."""

STEMS = ("diffusion_pytorch_model", "model")
"""How diffusers and transformers call the weights of a component."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a call depends on. `size`: (height, width) in pixels. `conditions`: 2 with guidance. `itemsizes`:
    bytes of a number in the transformer and text encoder, and in the VAE.
    """

    chunks: int
    chunk_frames: int
    size: tuple[int, int]
    conditions: int
    itemsizes: tuple[int, int]


def footprint(model: str, call: Call, plan: MemoryPlan) -> Footprint | None:
    """Bytes of a call by part; None where the model's files are not on this machine."""
    folder = folder_of(model)
    if folder is None:
        return None
    itemsize, vae_itemsize = call.itemsizes
    total = weights(folder, {"transformer": itemsize, "text_encoder": itemsize, "vae": vae_itemsize})
    transformer, vae = (config_of(folder, component) for component in ("transformer", "vae"))
    if total is None or transformer is None or vae is None:
        return None
    scale = vae.get("scale_factor_spatial", 8)
    shape = (1, transformer["in_channels"], call.chunk_frames, *(side // scale for side in call.size))
    block = block_elements(transformer, shape, call.conditions)
    sinks, window = capacity(plan, call.chunks)
    read = sinks if plan.recall_chunks is None else min(sinks, plan.sink_chunks + plan.recall_chunks)
    # A sink with chunks folded in is kept in float32, and any sink may be one.
    sink_size = FLOAT32 if plan.sink_precision == "float32" else itemsize
    state, frames = (count * vae_itemsize for count in decoded(vae, shape))
    return Footprint(
        weights=total,
        memory=block * (sinks * sink_size + window * itemsize),
        reading=block * itemsize * (read + window + 1),  # with room for the current chunk
        latents=prod(shape) * itemsize,
        frames=frames,
        state=state,
        chunks=call.chunks,
    )


def folder_of(model: str) -> Path | None:
    """The diffusers folder of a model, or of a hub id that is in the local cache; None where neither is here."""
    if (Path(model) / INDEX).is_file():
        return Path(model)
    try:
        cached = try_to_load_from_cache(model, INDEX)
    except HFValidationError:  # not of the form of a hub id
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def config_of(folder: Path, component: str) -> dict[str, Any] | None:
    """The configuration of a component, None where it is not here."""
    path = folder / component / "config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def weights(folder: Path, itemsizes: Mapping[str, int]) -> int | None:
    """Bytes of a pipeline's weights, loaded with `itemsizes` bytes an element, by component; None where one is missing.

    Layers that a library keeps in float32 at every dtype count with the others.
    """
    total = 0
    for component, itemsize in itemsizes.items():
        files = list(_weight_files(folder / component))
        if not files or not all(file.is_file() for file in files):
            return None
        total += itemsize * sum(elements(file) for file in files)
    lora = folder / LORA_FILE
    return total + (itemsizes["transformer"] * elements(lora) if lora.is_file() else 0)


def _weight_files(component: Path) -> Iterator[Path]:
    for stem in STEMS:
        index = component / f"{stem}.safetensors.index.json"
        if index.is_file():
            names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            yield from (component / name for name in sorted(set(names)))
            return
        if (component / f"{stem}.safetensors").is_file():
            yield component / f"{stem}.safetensors"
            return


def elements(file: Path) -> int:
    """Numbers in a safetensors file, from its header: eight bytes of length, then JSON. Raises `InputError`."""
    check_file(file)
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def block_elements(transformer: Mapping[str, Any], shape: tuple[int, ...], conditions: int) -> int:
    """Keys and values of one chunk in all layers; `shape` is that of its latents, ``[1, C, F, h, w]``."""
    tokens = prod(shape[2:]) // prod(transformer["patch_size"])
    width = transformer["num_attention_heads"] * transformer["attention_head_dim"]
    return int(2 * transformer["num_layers"] * conditions * tokens * width)


def decoded(vae: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, int]:
    """Numbers in (decoder state, frames) of one candidate after a chunk that is not the first: that one has fewer.

    Every causal convolution of the decoder keeps the last two frames of its input. `vae` is the configuration of an
    `AutoencoderKLWan`; `shape` is that of the latents, ``[1, C, F, h, w]``.
    """
    _, latent_channels, frames, *size = shape
    multipliers = [*reversed(vae.get("dim_mult", (1, 2, 4, 4)))]
    base = vae.get("decoder_base_dim") or vae.get("base_dim", 96)
    widths = [base * factor for factor in (multipliers[0], *multipliers)]
    twice = [*reversed(vae.get("temperal_downsample", (False, True, True)))]
    area = prod(size)
    kept = area * (latent_channels + 4 * widths[0])  # the first convolution, and the two residual blocks after it
    for index, (given, width) in enumerate(pairwise(widths)):
        narrowed = given // 2 if index and not vae.get("is_residual") else given
        kept += area * (narrowed + width * (2 * vae.get("num_res_blocks", 2) + 1))
        if index < len(twice):  # the last block does not enlarge
            kept += area * width * twice[index]
            frames, area = frames * (1 + twice[index]), area * 4
    return 2 * (kept + area * widths[-1]), frames * area * vae.get("out_channels", 3)
