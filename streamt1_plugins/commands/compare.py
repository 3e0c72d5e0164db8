"""`streamt1 compare`: the same prompts and seeds under several recipes, judged by something the search never saw."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamt1_plugins.commands.base import takes
from streamt1_plugins.commands.batch import read_prompts
from streamt1_plugins.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamt1_plugins.recipe import Recipe


@dataclass(frozen=True)
class CompareOptions:
    """The command line of `streamt1 compare`."""

    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Recipes; gains count against the first.")]
    prompts: Annotated[Path, typer.Option(help="A text file with a prompt per line; # starts a comment.")]
    judge: Annotated[str, typer.Option(help="A reward none of the recipes selects on.")]
    out: Annotated[
        Path, typer.Option(help="Folder for results.jsonl, summary.json and summary.md; continued if it exists.")
    ]
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per prompt: 0, 1, ...")] = 1
    model: Annotated[str | None, typer.Option(help="As for generate. Default: tinyworld.")] = None
    override: Annotated[
        list[str] | None, typer.Option("--override", "-o", metavar="KEY=VALUE", help="Changes every recipe.")
    ] = None
    num_frames: Annotated[int | None, typer.Option(help="Frames per video. Default: the adapter's.")] = None
    shard: Annotated[str, typer.Option(help="I/N: only every N-th prompt from I on, for N processes side by side.")] = (
        "0/1"
    )
    circular: Annotated[bool, typer.Option("--circular", help="Allow a judge that a recipe selects on.")] = False


@takes(CompareOptions)
def compare(options: CompareOptions) -> None:
    """Compare recipes on the same prompts and seeds, with paired 95 % bootstrap intervals."""
    from streamt1_plugins.compare import run, table

    comparison = run.Comparison(
        recipes=_recipes(options),
        prompts=_shard(read_prompts(options.prompts), options.shard),
        seeds=range(options.seeds),
        judge=options.judge,
        model=options.model,
        call={} if options.num_frames is None else {"num_frames": options.num_frames},
        allow_circular=options.circular,
    )
    total = len(comparison.recipes) * len(comparison.prompts) * len(comparison.seeds)
    with typer.progressbar(run.run(comparison, options.out), length=total, label="videos") as rows:
        for _ in rows:
            pass
    found = table.summary(run.read(options.out))
    text = table.markdown(found)
    (options.out / "summary.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (options.out / "summary.md").write_text(text, encoding="utf-8")
    typer.echo(text)


def _recipes(options: CompareOptions) -> Mapping[str, Recipe]:
    from streamt1_plugins import recipe

    return {Path(name).stem: recipe.load(name, options.override or ()) for name in options.recipes}


def _shard(prompts: list[str], shard: str) -> list[str]:
    try:
        index, count = (int(part) for part in shard.split("/"))
    except ValueError as error:
        raise InputError(f"--shard {shard!r} is not of the form I/N, e.g. 0/2.") from error
    if not 0 <= index < count:
        raise InputError(f"--shard {shard!r}: I counts from 0 and is below N.")
    return prompts[index::count]
