"""`streamt1 generate`: from a prompt to a run folder."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamt1_plugins.cli.base import SOME_FAILED, Threads, Trust, debug_everywhere, takes
from streamt1_plugins.cli.batch import Batch, items, report_problems
from streamt1_plugins.cli.batch_folders import NAME_LENGTH, words_of
from streamt1_plugins.cli.dry_run import Planned, show_plan
from streamt1_plugins.cli.launched import as_one_process, check_processes
from streamt1_plugins.cli.running import check_usable, console_of, kept, loading, show_result, starting, stoppable
from streamt1_plugins.cli.seeds import seeds_of
from streamt1_plugins.config.overrides import refuse_double
from streamt1_plugins.config.prompt_file import PromptLine, prompt_lines
from streamt1_plugins.config.schedule import read_schedule
from streamt1_plugins.errors import InputError, OutputError
from streamt1_plugins.runs.files import check_writable, new_folder
from streamt1_plugins.search.distributed.launch import join

if TYPE_CHECKING:
    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.pipeline import StreamPipeline
    from streamt1_plugins.plugins.check import Checked
    from streamt1_plugins.search.distributed.world import World


@dataclass(frozen=True)
class GenerateOptions:
    """The command line of `streamt1 generate`."""

    prompt: Annotated[
        str,
        typer.Argument(
            metavar="PROMPT",
            help="What the video shows. The bundled model knows few words: see streamt1 plugins.",
            show_default=False,
        ),
    ] = ""
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="A shipped recipe or a YAML file.")] = "stream-t1"
    override: Annotated[
        list[str] | None,
        typer.Option("--override", "-o", metavar="KEY=VALUE", help="Change a key of the recipe, e.g. search.top_k=3."),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            help="A folder, a hub id or an adapter's bundled model. Default: the recipe's, else tinyworld-student."
        ),
    ] = None
    adapter: Annotated[str | None, typer.Option(help="The adapter that drives the model.")] = None
    num_frames: Annotated[
        int | None, typer.Option(help="Frames of the video. Default: the recipe's, else the adapter's.")
    ] = None
    height: Annotated[int | None, typer.Option(help="Height in pixels. Default: the recipe's, else the adapter's.")] = (
        None
    )
    width: Annotated[int | None, typer.Option(help="Width in pixels. Default: the recipe's, else the adapter's.")] = (
        None
    )
    seed: Annotated[int | None, typer.Option(help="Root of every random number. Default: the recipe's.")] = None
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N...", help="A video for each of these seeds, in a run folder each: 1 2 3, or 0-7."),
    ] = None
    device: Annotated[str | None, typer.Option(help="Where to run. Default: cuda where there is one, else cpu.")] = None
    threads: Threads = None
    out: Annotated[Path | None, typer.Option(help="The run folder, new or empty. Default: runs/TIME-PROMPT.")] = None
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Resume an interrupted run instead.")] = None
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A prompt, or JSON with a schedule, per line instead; a run folder each in --out. Run again, it makes "
            "what is missing.",
        ),
    ] = None
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Where the prompt changes: YAML or JSON, a list of {chunk, prompt, memory}. Or the list itself.",
        ),
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the complete recipe, the cost, the memory and the folders alone.")
    ] = False
    processes: Annotated[int | None, typer.Option(help="Stop unless a launcher started this many.")] = None
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Log to Weights & Biases too; works offline.")
    ] = None
    trust: Trust = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the path of the video.")] = False
    json: Annotated[bool, typer.Option("--json", help="Print only the summary, as JSON.")] = False
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.", callback=debug_everywhere)
    ] = False

    def sizes(self) -> dict[str, int]:
        """The sizes of the video that were given."""
        sizes = {"num_frames": self.num_frames, "height": self.height, "width": self.width}
        return {name: value for name, value in sizes.items() if value is not None}


@takes(GenerateOptions)
def generate(options: GenerateOptions) -> None:
    """Generate a video for PROMPT: search it chunk by chunk with the recipe, and keep everything in a run folder."""
    starting(options)
    failed = 0
    with as_one_process(options.device) as world:
        check_processes(options.processes)
        if options.resume is not None:
            _resume(options, options.resume)
        elif options.prompts is not None or options.seeds is not None:
            failed = _all(options, world)
        else:
            _one(options)
    if failed and (world is None or world.rank == 0):  # a launcher stops the others when one process fails
        raise typer.Exit(SOME_FAILED)


def _one(options: GenerateOptions) -> None:
    line = _line(options)
    options, recipe = replace(options, prompt=line.prompt), _recipe(options)
    if options.dry_run:
        _plan_one(options, recipe, line)
        return
    workers = join(recipe.parallel, options.device).workers
    # Only the first process writes; for the others the folder may exist by now.
    out: Path = workers.all_gather(run_folder(options.out, options.prompt) if workers.rank == 0 else None)[0] or Path()
    recipe = _observed(recipe, out)
    with ExitStack() as stack:
        if options.out is None:
            stack.callback(_remove_empty, out)
        _checked(options, recipe, out).prompt(line.prompt, line.call)
        pipe = _loaded(options, recipe, out)
        pipe.workers = workers
        with kept(pipe, out):
            pipe(line.prompt, **line.call)
    if workers.rank == 0:
        show_result(options, pipe, out)
        check_usable(pipe, out)


def _line(options: GenerateOptions) -> PromptLine:
    """The prompt of the command line, and its schedule."""
    if options.schedule is not None:
        return PromptLine.of(0, read_schedule(options.schedule, options.prompt.strip() or None))
    if not options.prompt.strip():
        raise InputError("The prompt is empty: describe what the video should show.")
    return PromptLine(0, options.prompt)


def _plan_one(options: GenerateOptions, recipe: Recipe, line: PromptLine) -> None:
    out = options.out or _new_name(options)
    if options.out is not None:
        run_folder(options.out, options.prompt)
    checked = _checked(options, _observed(recipe, out), out)
    checked.prompt(line.prompt, line.call)
    show_plan(options, checked.recipe, [Planned(line.prompt, recipe.seed, out, "new", line.scenes)])


def _all(options: GenerateOptions, world: World | None) -> int:
    """Every prompt of a file with every seed, over all processes. Returns how many have no video, as `Batch.run`."""
    from streamt1_plugins.plugins.build import refuse_single_places

    _check_batch(options, world)
    line = None if options.prompts is not None else _line(options)
    options = options if line is None else replace(options, prompt=line.prompt)
    seeds = None if options.seeds is None else seeds_of(options.seeds)
    recipe = _recipe(options)
    group = join(recipe.parallel, options.device, many_prompts=True)
    out = options.out or _new_name(options)
    recipe = _observed(recipe, out, several=True)
    check_writable(out)
    checked = _checked(options, recipe, out)
    refuse_single_places(checked.added, "this command makes several")
    lines = _lines(options.prompts, line, checked)
    if options.prompts is not None and (world is None or world.rank == 0):
        report_problems(options.prompts, lines)
    found = items(lines, checked.recipe, seeds, out)
    if options.dry_run:
        planned = [
            Planned(each.line.prompt, each.recipe.seed, each.folder, each.state, each.line.scenes)
            for each in found
            if each.folder
        ]
        first = found[0].recipe if seeds else checked.recipe
        show_plan(options, first, planned)
        return 0
    pipe = _loaded(replace(options, quiet=True), recipe, out)
    pipe.workers = group.workers
    with stoppable():
        source = "This prompt" if options.prompts is None else str(options.prompts)
        return Batch(pipe, source, found, out, group, world, options.quiet).run()


def _check_batch(options: GenerateOptions, world: World | None) -> None:
    """Raise `InputError` for options that several videos cannot have."""
    if options.prompts is not None and (options.prompt or options.out is None):
        raise InputError("--prompts FILE takes the place of PROMPT, and needs --out FOLDER for the run folders.")
    if options.prompts is not None and options.schedule is not None:
        raise InputError(
            '--schedule is for one prompt. In --prompts FILE, a line has its own: {"prompt": "...", "schedule": [...]}.'
        )
    if options.json and not options.dry_run:
        raise InputError("--json prints the summary of one run: leave it out, each run folder has a summary.json.")
    if options.seeds is not None and (options.seed is not None or _overrides(options, "seed")):
        raise InputError("--seeds names every seed: leave out --seed and -o seed=...")
    if options.out is None and world is not None:
        raise InputError("Several processes share the videos of --seeds in one folder: name it with --out FOLDER.")


def _overrides(options: GenerateOptions, key: str) -> bool:
    return any(each.partition("=")[0].strip() == key for each in options.override or ())


def _lines(prompts: Path | None, line: PromptLine | None, checked: Checked) -> list[PromptLine]:
    """The prompts of the file, also those that cannot be used; or the one of the command line, checked."""

    def check(one: PromptLine) -> None:
        checked.prompt(one.prompt, one.call)

    if line is None:
        return prompt_lines(prompts or "", check)
    check(line)
    return [line]


def _recipe(options: GenerateOptions) -> Recipe:
    """The recipe of a new run. Mistakes in it are found before anything heavy is imported."""
    from streamt1_plugins.config import load as recipes
    from streamt1_plugins.plugins.acting import agreed

    given = list(options.override or ())
    refuse_double(given, model=options.model, adapter=options.adapter, seed=options.seed)
    if options.seed is not None:
        given.append(f"seed={options.seed}")
    if options.wandb is not None:
        given.append(f"observers.wandb.project={json.dumps(options.wandb, ensure_ascii=False)}")
    unused = () if options.model is None else ("model",)
    recipe = agreed(recipes.load(options.recipe, given), options.trust, unused=unused)
    # Written out, also the default one: a command line has no `torch.manual_seed` to follow.
    return recipe.model_copy(update={"seed": recipe.seed}).with_video(**options.sizes())


def _checked(options: GenerateOptions, recipe: Recipe, out: Path) -> Checked:
    """All checks that need no model: the recipe, the options of the observers, the size."""
    from streamt1_plugins.plugins.check import Checked
    from streamt1_plugins.plugins.resolve import resolve
    from streamt1_plugins.runs.observers.record import recorders

    checked = Checked.of(resolve(recipe, options.model, adapter=options.adapter), recorders(out, recipe.observers))
    checked.call({})
    return checked


def run_folder(out: Path | None, prompt: str) -> Path:
    """The folder of a run: `out`, which has to be new or empty, or else a new name under runs/."""
    if out is None:  # made at once: another run may start in the same second
        return new_folder(Path("runs"), _name(f"{datetime.now():%Y%m%d-%H%M%S}", prompt))
    check_writable(out)
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"The folder {out} is not empty. Choose another one with --out, or empty it first.")
    return out


def _new_name(options: GenerateOptions) -> Path:
    """Where runs go that have no `--out`; a dry run, which makes no folder, has no time either."""
    return Path("runs", _name("TIME" if options.dry_run else f"{datetime.now():%Y%m%d-%H%M%S}", options.prompt))


def _name(time: str, prompt: str) -> str:
    return "-".join([time, *words_of(prompt)])[:NAME_LENGTH]


def _remove_empty(out: Path) -> None:
    """Remove the folder of a run that did not even start, and the one around it where that is empty then."""
    with suppress(OSError):  # it is not empty, or was not made
        out.rmdir()
        out.parent.rmdir()


def _loaded(options: GenerateOptions, recipe: Recipe, out: Path) -> StreamPipeline:
    import streamt1_plugins
    from streamt1_plugins.runs.observers.record import recorders

    observers = {**recorders(out, recipe.observers), **console_of(options)}
    with loading(options):
        return streamt1_plugins.load(
            options.model,
            recipe,
            adapter=options.adapter,
            device=options.device,
            observers=observers,
            trust=options.trust,
        )


def _resume(options: GenerateOptions, folder: Path) -> None:
    """Resume an interrupted run; its folder has everything that is needed."""
    changed = [name for name, default in _NEW_RUNS_ONLY.items() if getattr(options, name) != default]
    if options.prompt or changed:
        given = [f"--{name}".replace("_", "-") for name in changed] or ["the prompt"]
        raise InputError(f"--resume finishes a run as it was started: leave out {', '.join(given)}.")
    from streamt1_plugins.resuming import open_interrupted

    with loading(options):
        pipe = open_interrupted(folder, device=options.device, observers=console_of(options), trust=options.trust)
    pipe.workers = join(pipe.recipe.parallel, options.device).workers
    with kept(pipe, folder):
        pipe.complete(pipe.last_run)
    if pipe.workers.rank == 0:
        show_result(options, pipe, folder)
        check_usable(pipe, folder)


def _observed(recipe: Recipe, out: Path, *, several: bool = False) -> Recipe:
    """The recipe; programs that it logs to call the run by its folder, and wandb shows what that holds.

    several: a batch, whose videos are named one by one, and each process makes some of them.
    """
    from streamt1_plugins.runs.observers.record import titled

    recipe, wandb = recipe if several else titled(recipe, out), recipe.observers.get("wandb")
    if wandb is None:
        return recipe
    own = {"group": out.name, **wandb, "every_process": True} if several else recipe.observers["wandb"]
    observers = {**recipe.observers, "wandb": {"folder": str(out), **own}}
    return recipe.model_copy(update={"observers": observers})


_NEW_RUNS_ONLY = {
    field.name: field.default
    for field in fields(GenerateOptions)
    if field.name not in {"prompt", "device", "threads", "resume", "processes", "trust", "quiet", "json", "debug"}
}
