"""`streamt1 generate`: a prompt in, a run folder out."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamt1_plugins.commands.base import debug_everywhere, takes, terminal
from streamt1_plugins.errors import InputError, OutputError, foreign_code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.recipe import Recipe

VIDEO = "video.mp4"
SLUG_WORDS, NAME_LENGTH = 8, 80


@dataclass(frozen=True)
class GenerateOptions:
    """The command line of `streamt1 generate`."""

    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What the video shows.", show_default=False)]
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="A shipped recipe or a YAML file.")] = "stream-t1"
    override: Annotated[
        list[str] | None,
        typer.Option("--override", "-o", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. search.top_k=3."),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(help="A folder, a hub id or an adapter's bundled model. Default: the recipe's, else tinyworld."),
    ] = None
    adapter: Annotated[str | None, typer.Option(help="The adapter that drives the model.")] = None
    num_frames: Annotated[int | None, typer.Option(help="Frames of the video. Default: the adapter's.")] = None
    height: Annotated[int | None, typer.Option(help="Height in pixels. Default: the adapter's.")] = None
    width: Annotated[int | None, typer.Option(help="Width in pixels. Default: the adapter's.")] = None
    seed: Annotated[int | None, typer.Option(help="Root of every random number. Default: the recipe's.")] = None
    device: Annotated[str | None, typer.Option(help="Where to run. Default: cuda where there is one, else cpu.")] = None
    out: Annotated[
        Path | None, typer.Option(help="The run folder, new or empty. Default: runs/TIME-PROMPT.", show_default=False)
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the path of the video.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print only the summary, as JSON.")] = False
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", callback=debug_everywhere)
    ] = False

    def call(self) -> dict[str, Any]:
        """The arguments of the pipeline's call that were given."""
        sizes = {"num_frames": self.num_frames, "height": self.height, "width": self.width}
        return {name: value for name, value in sizes.items() if value is not None}


@takes(GenerateOptions)
def generate(options: GenerateOptions) -> None:
    """Generate a video for PROMPT: search it chunk by chunk as the recipe says, and keep everything in a run folder."""
    recipe = _recipe(options)
    out = run_folder(options.out, options.prompt)
    pipe = _loaded(options, recipe, out)
    with _kept(pipe, out):
        pipe(options.prompt, **options.call())
    _report(options, pipe, out)


def _recipe(options: GenerateOptions) -> Recipe:
    """What can be told wrong at once is, before anything heavy is imported."""
    from streamt1_plugins import recipe as recipes

    if not options.prompt.strip():
        raise InputError("The prompt is empty: say what the video should show.")
    seed = [] if options.seed is None else [f"seed={options.seed}"]
    return recipes.load(options.recipe, [*(options.override or ()), *seed])


def run_folder(out: Path | None, prompt: str) -> Path:
    """The folder of a run: the one asked for, which has to be new or empty, or a new name under runs/."""
    from streamt1_plugins.observers.folder import check_writable

    folder = out or _new_name(Path("runs"), prompt)
    check_writable(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"The folder {folder} is not empty. Choose another one with --out, or empty it first.")
    return folder


def _new_name(parent: Path, prompt: str) -> Path:
    words = re.findall(r"[a-z0-9]+", prompt.lower())[:SLUG_WORDS]
    name = "-".join([f"{datetime.now():%Y%m%d-%H%M%S}", *words])[:NAME_LENGTH]
    names = (name if number == 1 else f"{name}-{number}" for number in range(1, 1000))
    return next(parent / each for each in names if not (parent / each).exists())


def _loaded(options: GenerateOptions, recipe: Recipe, out: Path) -> StreamPipeline:
    import streamt1_plugins
    from streamt1_plugins.observers.console import Console
    from streamt1_plugins.observers.folder import Folder
    from streamt1_plugins.observers.video import Video

    observers: dict[str, object] = {"folder": Folder(str(out)), "video": Video(str(out / VIDEO))}
    if not options.quiet:
        observers["console"] = Console()
    _silence_loading_bars()
    with _waiting(options):
        pipe = streamt1_plugins.load(options.model, recipe, adapter=options.adapter, observers=observers)
        _move(pipe, options.device or _best_device())
    return pipe


def _move(pipe: StreamPipeline, device: str) -> None:
    if device == "cpu":  # where models are loaded
        return
    with foreign_code(f"Moving the model to {device!r}"):
        pipe.pipe.to(device)


def _silence_loading_bars() -> None:
    """The bars of loading a folder would break into ours; those of a download stay."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _waiting(options: GenerateOptions) -> Any:
    from rich.console import Console

    console = Console(stderr=True)
    show = console.is_terminal and not options.quiet
    return console.status("Loading the model") if show else nullcontext()


@contextmanager
def _kept(pipe: StreamPipeline, out: Path) -> Iterator[None]:
    """Where the run ends early, say what is left of it: the observers have saved it by now."""
    done = False
    try:
        yield
        done = True
    finally:
        if not done and pipe.run is not None and len(pipe.tree):
            typer.echo(f"What was generated so far is kept in {out}", err=True)


def _report(options: GenerateOptions, pipe: StreamPipeline, out: Path) -> None:
    from streamt1_plugins.observers.console import counted, tree_table
    from streamt1_plugins.observers.folder import RECIPE, SUMMARY, TREE, to_json

    found = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
    if options.json:
        typer.echo(to_json({**found, "out": str(out), "video_file": str(out / VIDEO)}), nl=False)
        return
    if options.quiet:
        typer.echo(str(out / VIDEO))
        return
    terminal().print(tree_table(pipe.tree))
    cost, seconds = found["cost"], found["seconds"]
    typer.echo(f"\n{counted(cost['candidates'], 'candidate')} in {seconds['wall']:.1f} s, seed {found['seed']}")
    typer.echo(f"video   {out / VIDEO}")
    typer.echo(f"folder  {out}  ({TREE}, {RECIPE}, {SUMMARY})")
