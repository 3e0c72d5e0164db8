"""Converts a published checkpoint to a diffusers folder: its transformer, with the other parts of a base pipeline."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from diffusers import WanPipeline, WanTransformer3DModel

from streamt1_plugins.api.weights import check_values
from streamt1_plugins.errors import FolderInUseError, InputError, OutputError, UnsupportedPipelineError, foreign_code
from streamt1_seams import check_folder
from streamt1_wan import architecture
from streamt1_wan.checkpoint import Weights, check_there, read
from streamt1_wan.lora import check_lora, read_lora

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamt1_wan.checkpoint import Checkpoint
    from streamt1_wan.lora import Lora

Dtype = Literal["float32", "bfloat16", "float16"]
CONVERTING = ".converting"
"""A file in the folder that a conversion is writing."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The inputs and options of a conversion.

    checkpoint: a .pt or .safetensors file (or a folder with one) of Self-Forcing, Causal-Forcing, CausVid, LongLive or
    kin. base: a diffusers folder or hub id of the Wan model it was trained from; gives the VAE, text encoder,
    tokenizer and scheduler. lora: a LoRA, see `streamt1_wan.lora`. lora_alpha: None takes the LoRA's own. merged: add
    the LoRA to the weights (in float32), or keep it beside them, all but whole differences of weights. weights: None
    takes the moving average where there is one.
    """

    checkpoint: Path
    base: str
    lora: Path | None = None
    lora_alpha: float | None = None
    merged: bool = True
    weights: Weights | None = None
    dtype: Dtype = "bfloat16"


@dataclass(frozen=True)
class Converted:
    """What was written: the entry of the checkpoint that was used; ranks and scales of the LoRA, None without one."""

    entry: str
    lora: str | None


def convert(job: Conversion, out: Path) -> Converted:
    """Write the folder `out`, new or empty. Raises `InputError` for files that do not fit, before memory is taken."""
    _check_new(out)
    checkpoint, lora, empty = fitting(job)
    with _alone_in(out):
        _write(job, out, checkpoint, lora, empty)
    return Converted(checkpoint.entry, None if lora is None else lora.describe())


def _check_new(out: Path) -> None:
    if (out / CONVERTING).exists():
        raise FolderInUseError(
            f"Another conversion is writing to the folder {out}. Choose another one, or remove it if that conversion "
            "was killed."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is not a new or empty folder. Choose another one.")


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Mark the folder `out` as this conversion's. Nothing is left of it where it was new and stays empty."""
    is_new, mark = not out.exists(), out / CONVERTING
    out.mkdir(parents=True, exist_ok=True)
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        _check_new(out)
        raise
    try:
        yield
    finally:
        mark.unlink()
        if is_new and not any(out.iterdir()):
            out.rmdir()


def _write(job: Conversion, out: Path, checkpoint: Checkpoint, lora: Lora | None, empty: Any) -> None:
    transformer = filled(empty, checkpoint, job, lora)
    dtypes = {"default": getattr(torch, job.dtype), "vae": torch.float32}
    with foreign_code(f"Loading the base pipeline {job.base!r}"):
        pipe = WanPipeline.from_pretrained(job.base, transformer=transformer, dtype=dtypes)
    pipe.save_pretrained(out)
    if lora is not None and lora.pairs and not job.merged:
        metadata = {**lora.config.to_dict(), "target_modules": sorted(lora.pairs)}
        WanPipeline.save_lora_weights(
            out, transformer_lora_layers=lora.halves, transformer_lora_adapter_metadata=metadata
        )


def fitting(job: Conversion) -> tuple[Checkpoint, Lora | None, Any]:
    """The checkpoint, the LoRA and an empty model, once all of them are checked to fit each other."""
    check_there(job.checkpoint)  # what the user typed first, before a base is looked up on the hub
    if job.lora is not None:
        check_there(job.lora)
    empty = architecture.empty_transformer(_base_config(job.base))
    checkpoint = read(job.checkpoint, job.weights)
    architecture.check(checkpoint.tensors, empty, f"{job.checkpoint} does not fit {job.base}")
    if job.lora is None:
        return checkpoint, None, empty
    lora = read_lora(job.lora, job.lora_alpha)
    check_lora(lora, empty, f"{job.lora} does not fit {job.base}")
    return checkpoint, lora, empty


def filled(empty: Any, checkpoint: Checkpoint, job: Conversion, lora: Lora | None) -> Any:
    """The model with the checkpoint's weights and what of `lora` is merged into them; each is rounded once."""
    weights = {}
    for name, tensor in checkpoint.tensors.items():
        whole = tensor if lora is None else lora.added(name, tensor, pairs=job.merged)
        weights[name] = whole.to(_dtype(name, getattr(torch, job.dtype)))
    check_values(weights, f"{job.checkpoint} in {job.dtype}")
    empty.load_state_dict(weights, assign=True)
    return empty.requires_grad_(False)


def _dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    """Norms, modulation and time embedding stay in float32, as diffusers loads them."""
    wide = WanTransformer3DModel._keep_in_fp32_modules
    return torch.float32 if any(part in wide for part in name.split(".")) else dtype


def _base_config(base: str) -> Mapping[str, Any]:
    """The transformer's configuration in the base pipeline, whose transformer may be there without its weights."""
    check_folder(base, parts=("vae", "text_encoder"))
    with foreign_code(f"Reading the base pipeline {base!r}"):
        index = WanPipeline.load_config(base)
        config: Mapping[str, Any] = WanTransformer3DModel.load_config(base, subfolder="transformer")
    if index["_class_name"] != "WanPipeline":
        raise UnsupportedPipelineError(f"{base!r} is a {index['_class_name']}; a WanPipeline is needed.")
    if (index.get("transformer_2") or [None])[0] is not None:
        raise UnsupportedPipelineError(f"{base!r} has two transformers (Wan 2.2); causal models are made of one.")
    if config["_class_name"] != "WanTransformer3DModel":
        raise InputError(f"The transformer of {base!r} is a {config['_class_name']}, not a WanTransformer3DModel.")
    return config
