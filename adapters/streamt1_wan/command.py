"""`streamt1 convert`. Light to import: the command line shows its help without loading torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from streamt1_plugins.cli.base import debug_everywhere, echo, takes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.config.schema import Recipe


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
    echo(f"try      {_try(options)}")


def _try(options: ConvertOptions) -> str:
    """The command that makes a video, with the settings that these weights were trained for."""
    generate, recipes = 'streamt1 generate "a cat on a beach" --recipe', _recipes()
    name = _recipe_for(options, recipes)
    if name is None:
        return f"{generate} RECIPE --model {options.out}  (RECIPE: {', '.join(recipes)}, whichever the weights are of)"
    is_named = Path(recipes[name].model or "") == options.out
    return f"{generate} {name}" + ("" if is_named else f" --model {options.out}")


def _recipes() -> dict[str, Recipe]:
    """The shipped recipes for converted checkpoints."""
    from streamt1_plugins.config import load

    named = {name: load.load(name) for name in sorted(load.names())}
    return {name: recipe for name, recipe in named.items() if recipe.adapter.name == "wan" and recipe.model}


def _recipe_for(options: ConvertOptions, recipes: Mapping[str, Recipe]) -> str | None:
    """The recipe whose header has the checkpoint's file or whose model is the folder's name; None where neither fits.

    A file name that says nothing counts with its folder.
    """
    from streamt1_plugins.config import load

    file = options.checkpoint
    wanted = f"{file.parent.name}/{file.name}" if file.stem == "model" else file.name
    headers = {name: load.header(load.names()[name]) for name in recipes}
    by_file = [name for name, header in headers.items() if re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", header)]
    by_folder = [name for name, recipe in recipes.items() if Path(recipe.model or "").name == options.out.name]
    return next((found[0] for found in (by_file, by_folder) if len(found) == 1), None)
