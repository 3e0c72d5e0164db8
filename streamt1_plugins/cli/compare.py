"""`streamt1 compare`: the same prompts and seeds under several recipes, judged by a reward no search selects on."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamt1_plugins.cli.base import SOME_FAILED, Threads, Trust, complain, echo, takes
from streamt1_plugins.cli.batch import report_problems
from streamt1_plugins.config.overrides import refuse_double
from streamt1_plugins.config.prompt_file import prompt_lines
from streamt1_plugins.errors import InputError, OutputError, StreamT1Error
from streamt1_plugins.runs.files import check_writable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamt1_plugins.compare.comparison import Comparison
    from streamt1_plugins.compare.run import Pipelines
    from streamt1_plugins.config.schema import Recipe

MATCHED = (
    "Recipes that search were widened towards the forwards of the most expensive one, at most one candidate beyond."
)


class Match(str, Enum):
    """The costs that recipes can be matched in."""

    forwards = "forwards"


@dataclass(frozen=True)
class CompareOptions:
    """The command line of `streamt1 compare`."""

    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Recipes; gains are against the first.")]
    prompts: Annotated[Path, typer.Option(help="A file with a prompt, or JSON with a schedule, per line.")]
    judge: Annotated[str, typer.Option(help="A reward that no recipe selects on.")]
    out: Annotated[Path, typer.Option(help="Folder for results, tables and page; continued if it exists.")]
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per prompt: 0, 1, ...")] = 1
    model: Annotated[str | None, typer.Option(help="As for generate. Default: tinyworld-student.")] = None
    override: Annotated[
        list[str] | None, typer.Option("--override", "-o", metavar="KEY=VALUE", help="Change this key in every recipe.")
    ] = None
    num_frames: Annotated[int | None, typer.Option(help="Frames per video. Default: the adapter's.")] = None
    device: Annotated[str | None, typer.Option(help="Where to run. Default: cuda where there is one, else cpu.")] = None
    threads: Threads = None
    match: Annotated[
        Match | None, typer.Option(help="Widen the recipes that search towards the forwards of the most expensive one.")
    ] = None
    candidates: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Run each recipe that searches with N candidates per chunk.")
    ] = None
    videos_mb: Annotated[
        float, typer.Option(min=0, metavar="MB", help="Keep the videos, of this many MB together; 0 keeps none.")
    ] = 500.0
    shard: Annotated[
        str, typer.Option(help="I/N: only every N-th prompt, starting at I, to share the work of N processes.")
    ] = "0/1"
    fit_weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Judge every candidate of the first recipe that searches, and write weights for its rewards to this "
            "new recipe file.",
        ),
    ] = None
    trust: Trust = False
    circular: Annotated[bool, typer.Option("--circular", help="Allow a judge that a recipe selects on.")] = False


@takes(CompareOptions)
def compare(options: CompareOptions) -> None:
    """Compare recipes on the same prompts and seeds, with paired 95 % bootstrap intervals."""
    from streamt1_plugins.cli.running import importing, stoppable

    with importing():
        from streamt1_plugins.compare import page, progress, run, table  # first: `page` needs matplotlib
        from streamt1_plugins.compare.comparison import Comparison
    inside = progress.VideoProgress()
    pipelines = run.Pipelines(options.model, options.device, {"comparison": inside})
    comparison = Comparison(
        recipes=_recipes(options),
        prompts=[line.text for line in prompt_lines(options.prompts)],
        seeds=range(options.seeds),
        judge=options.judge,
        model=options.model,
        call={} if options.num_frames is None else {"num_frames": options.num_frames},
        allow_circular=options.circular,
        device=pipelines.device,
    )
    run.circular_recipes(comparison)
    lines = prompt_lines(options.prompts, run.checker(comparison))
    report_problems(options.prompts, lines)
    prompts = list(dict.fromkeys(line.text for line in lines if not line.problem))
    scenes = {line.text: line.scenes for line in lines if line.scenes}
    comparison = replace(comparison, prompts=prompts, scenes=scenes)
    comparison = replace(
        comparison, recipes=_sized(options, comparison, pipelines), prompts=_shard(prompts, options.shard)
    )
    if options.fit_weights is not None:
        comparison = _fitting(options, comparison)
    wanted = len(run.missing(comparison, options.out))
    progress.print_plan(comparison, wanted)
    failed = [line for line in lines if line.problem]
    known = len(failed)
    with stoppable():
        rows = run.run(comparison, options.out, pipelines, _reporting(failed), options.videos_mb)
        progress.show(rows, wanted, inside)
    progress.print_others(len(run.missing(comparison, options.out)) - (len(failed) - known))
    made = run.read(options.out)
    if made:
        found = table.summary(made)
        notes = [MATCHED] if options.match else []
        _write(options.out, found, page.render(made, options.out, options.judge, notes))
    if options.fit_weights is not None and comparison.fitted is not None:
        _write_weights(options, comparison, made)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _source(options: CompareOptions, label: str, folder: Path) -> str:
    """A recipe as the command line names it, a file by its path from `folder`."""
    from streamt1_plugins.config.load import find, names

    source = next(each for each in options.recipes if Path(each).stem == label)
    return source if source in names() else os.path.relpath(find(source), folder)


def _fitting(options: CompareOptions, comparison: Comparison) -> Comparison:
    """The comparison with the recipe whose rewards get weights: the first that searches, at its largest width."""
    from streamt1_plugins.compare import fit
    from streamt1_plugins.config.user_files import user_path

    file = user_path(options.fit_weights or "")
    if file.exists():
        raise OutputError(f"{file} exists. Name a new file for --fit-weights, or delete this one.")
    check_writable(file.parent)
    families = [label.partition("@")[0] for label, each in comparison.recipes.items() if each.search.is_wide]
    named = next((each for each in families if not comparison.is_oracle(each)), None)
    if named is None:
        raise InputError("--fit-weights needs a recipe that searches, besides the oracle: nothing ranks one candidate.")
    found = [label for label in comparison.recipes if label.partition("@")[0] == named][-1]
    fit.check_judged(options.out, found)
    return replace(comparison, fitted=found)


def _write_weights(options: CompareOptions, comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> None:
    from streamt1_plugins.compare import fit
    from streamt1_plugins.runs.files import write_atomically, writing

    label, file = str(comparison.fitted), Path(options.fit_weights or "").expanduser()
    found = fit.fitted(rows, label, comparison.judge, comparison.recipes[label])
    with writing(f"{file} cannot be written"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, found.to_yaml(_source(options, label.partition("@")[0], file.parent)))
    echo("\n".join(["", *fit.table(found.rewards)]))
    echo(f"weights {file}  (use them with: --recipe {file})")


def _reporting(failed: list[Any]) -> Callable[[tuple[str, str, int], StreamT1Error], None]:
    """A function that prints a video that was not made, and adds it to `failed`."""

    def report(video: tuple[str, str, int], error: StreamT1Error) -> None:
        label, prompt, seed = video
        complain(f"{label}, seed {seed}, prompt {prompt!r}: {error}")
        failed.append(video)

    return report


def _sized(options: CompareOptions, comparison: Comparison, pipelines: Pipelines) -> Mapping[str, Recipe]:
    """The recipes at the widths of the options."""
    from streamt1_plugins.compare import forwards, progress, widths

    if options.candidates is not None:
        return widths.at_widths(comparison.recipes, _numbers(options.candidates))
    if options.match:
        count = progress.printing_counts(forwards.counter(comparison, options.out, pipelines))
        return widths.matched(comparison.recipes, count)
    return comparison.recipes


def _write(out: Path, found: Mapping[str, Any], html: str) -> None:
    from streamt1_plugins.compare import page, run, stats, table, videos
    from streamt1_plugins.runs.files import write_atomically, writing

    caution = stats.caution(found["prompts"])
    found, tables = (
        {**found, "caution": caution},
        "\n".join([table.markdown(found), *([f"{caution}\n"] if caution else [])]),
    )
    files = {"summary.json": json.dumps(found, indent=1) + "\n", "summary.md": tables, page.PAGE: html}
    for name, text in files.items():
        with writing(f"{out / name} cannot be written"):
            write_atomically(out / name, text)
    echo(tables)
    echo(f"page    {out / page.PAGE}")
    kept = f", {videos.FOLDER}/" if (out / videos.FOLDER).is_dir() else ""
    echo(f"folder  {out}  ({run.RESULTS}, summary.json, summary.md{kept})")


def _numbers(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--candidates {text!r} is not of the form N,N,..., e.g. 1,2,4,8.") from error
    if min(found) < 1:
        raise InputError(f"--candidates {text!r}: a width is at least 1 candidate.")
    return sorted(set(found))


def _recipes(options: CompareOptions) -> Mapping[str, Recipe]:
    from streamt1_plugins.config.load import load
    from streamt1_plugins.plugins.acting import agreed

    if options.match and options.candidates is not None:
        raise InputError("--match and --candidates both set the widths of the recipes: use one of the two.")
    if any(each.partition("=")[0].strip() == "seed" for each in options.override or ()):
        raise InputError("A comparison runs the seeds 0, 1, ... of --seeds: leave out -o seed=...")
    labels = [Path(name).stem for name in options.recipes]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"Two of the recipes are called {label!r}: list it once, or rename one of the files.")
    refuse_double(options.override or (), model=options.model)
    loaded = (load(name, options.override or ()) for name in options.recipes)
    return {label: agreed(recipe, options.trust) for label, recipe in zip(labels, loaded, strict=True)}


def _shard(prompts: Sequence[str], shard: str) -> Sequence[str]:
    try:
        index, count = (int(part) for part in shard.split("/"))
    except ValueError as error:
        raise InputError(f"--shard {shard!r} is not of the form I/N, e.g. 0/2.") from error
    if not 0 <= index < count:
        raise InputError(f"--shard {shard!r}: I counts from 0 and must be below N.")
    return prompts[index::count]
