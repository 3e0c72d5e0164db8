"""`streamt1 convert`. Light to import: the command line shows its help without loading torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from streamt1_plugins.cli.base import debug_everywhere, echo, takes


class Weights(str, Enum):
    """The weights of a checkpoint to convert."""

    EMA = "ema"
    RAW = "raw"


class Dtype(str, Enum):
    """Dtype of the saved transformer and text encoder."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


@dataclass(frozen=True)
class ConvertOptions:
    """The command line of `streamt1 convert`."""

    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A file with weights, or a folder with one or with shards.")
    ]
    base: Annotated[str, typer.Option(help="A diffusers folder or hub id of the Wan model it was trained from.")]
    out: Annotated[Path, typer.Option(help="The folder to write, new or empty.")]
    lora: Annotated[Path | None, typer.Option(help="A LoRA, in any of the usual layouts.")] = None
    lora_alpha: Annotated[float | None, typer.Option(help="Its alpha. Default: its own, else its rank.")] = None
    unmerged: Annotated[bool, typer.Option("--unmerged", help="Keep the LoRA beside the weights.")] = False
    weights: Annotated[Weights | None, typer.Option(help="Default: ema where the file has it, else raw.")] = None
    dtype: Annotated[Dtype, typer.Option(help="Of transformer and text encoder; the VAE stays in float32.")] = (
        Dtype.BFLOAT16
    )
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", callback=debug_everywhere)
    ] = False


@takes(ConvertOptions)
def convert(options: ConvertOptions) -> None:
    """Turn a causal Wan checkpoint (Self-Forcing, Causal-Forcing, CausVid, LongLive) into a diffusers folder."""
    from streamt1_wan.convert import Conversion
    from streamt1_wan.convert import convert as run

    job = Conversion(
        checkpoint=options.checkpoint,
        base=options.base,
        lora=options.lora,
        lora_alpha=options.lora_alpha,
        merged=not options.unmerged,
        weights=cast("Any", options.weights and options.weights.value),
        dtype=cast("Any", options.dtype.value),
    )
    done = run(job, options.out)
    echo(f"weights  {done.entry} of {options.checkpoint}")
    if done.lora is not None:
        echo(f"lora     {done.lora}, {'beside the weights' if options.unmerged else 'merged'}")
    echo(f"folder   {options.out}")
    echo(f'try      streamt1 generate "a cat on a beach" --model {options.out} --adapter wan')
