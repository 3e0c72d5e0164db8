"""`streamt1 probe`: what a model's noise, rewards and memory can do for a search, and a recipe that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamt1_plugins.cli.base import SOME_FAILED, Threads, Trust, complain, echo, for_the_command, takes
from streamt1_plugins.cli.batch import report_problems
from streamt1_plugins.config.overrides import refuse_double
from streamt1_plugins.config.prompt_file import PromptLine, prompt_lines, refuse_scenes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.config.schema import Recipe
    from streamt1_plugins.errors import StreamT1Error
    from streamt1_plugins.probe.run import Probe, Probed


@dataclass(frozen=True)
class ProbeCommand:
    """The command line of `streamt1 probe`."""

    prompts: Annotated[Path, typer.Option(help="A text file with a prompt per line; # starts a comment.")]
    out: Annotated[Path, typer.Option(help="Folder for measurements, advice and page; continued if it exists.")]
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A folder, a hub id or an adapter's bundled model. Default: the recipe's, else tinyworld-student.",
            show_default=False,
        ),
    ] = None
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="The recipe that the advice extends.")] = "stream-t1"
    override: Annotated[
        list[str] | None, typer.Option("--override", "-o", metavar="KEY=VALUE", help="Change a key of the recipe.")
    ] = None
    adapter: Annotated[str | None, typer.Option(help="The adapter that drives the model.")] = None
    num_frames: Annotated[int | None, typer.Option(help="Frames of a video. Default: the adapter's.")] = None
    height: Annotated[int | None, typer.Option(help="Height in pixels. Default: the adapter's.")] = None
    width: Annotated[int | None, typer.Option(help="Width in pixels. Default: the adapter's.")] = None
    candidates: Annotated[int, typer.Option(help="Candidates per chunk, 4 to 64.")] = 8
    chunks: Annotated[int, typer.Option(help="Chunks per video, more where the memory window needs them.")] = 6
    seed: Annotated[int, typer.Option(min=0, help="Root of every random number.")] = 0
    device: Annotated[str | None, typer.Option(help="Where to run. Default: cuda where there is one, else cpu.")] = None
    threads: Threads = None
    trust: Trust = False
    json: Annotated[bool, typer.Option("--json", help="Print only the summary, as JSON.")] = False

    def call(self) -> dict[str, Any]:
        """The arguments of the pipeline's calls that were given."""
        sizes = {"num_frames": self.num_frames, "height": self.height, "width": self.width}
        return {name: value for name, value in sizes.items() if value is not None}


@takes(ProbeCommand)
def probe(options: ProbeCommand) -> None:
    """Measure what noise, rewards and memory of MODEL can do for a search, without a judge, and write a recipe."""
    from streamt1_plugins.cli.running import stoppable
    from streamt1_plugins.probe import page, progress, run  # first: `page` needs matplotlib
    from streamt1_plugins.probe.measure import ProbeOptions

    measured = ProbeOptions(candidates=options.candidates, chunks=options.chunks)
    recipe, call = _recipe(options), options.call()
    lines = prompt_lines(options.prompts, _checker(options, recipe, call))
    report_problems(options.prompts, lines)
    prompts = list(dict.fromkeys(line.text for line in lines if not line.problem))
    failed: list[Any] = [line for line in lines if line.problem]
    probed = _opened(options, recipe, prompts, call, measured)
    wanted = len(run.missing(probed, options.out))
    progress.print_plan(len(prompts), wanted, probed.options)

    def report(prompt: str, error: StreamT1Error) -> None:
        complain(f"{prompt!r}: {error}")
        failed.append(prompt)

    with stoppable(), progress.shown(wanted) as shown, _kept(options, probed, len(prompts)):
        for row in run.run(probed, options.out, report, shown.advance):
            progress.measured(shown, row)
    rows = run.own_rows(probed, options.out)
    found = run.conclude(probed, rows)
    run.write(options.out, found)
    page.write(options.out, rows, found)
    _show(options, found)
    if failed:
        raise typer.Exit(SOME_FAILED)


def _recipe(options: ProbeCommand) -> Recipe:
    from streamt1_plugins.config.load import load
    from streamt1_plugins.plugins.acting import agreed

    refuse_double(options.override or (), model=options.model)
    return agreed(load(options.recipe, options.override or ()), options.trust)


def _checker(options: ProbeCommand, recipe: Recipe, call: dict[str, Any]) -> Any:
    """A function that raises `InputError` for a prompt that cannot be used, before the model is loaded."""
    from streamt1_plugins.plugins.check import Checked
    from streamt1_plugins.plugins.resolve import resolve
    from streamt1_plugins.process.placement import chosen
    from streamt1_plugins.runs.files import check_writable

    chosen(options.device)
    check_writable(options.out)
    checked = Checked.of(resolve(recipe, options.model, adapter=options.adapter), {})
    checked.call(call)

    def check(line: PromptLine) -> None:
        refuse_scenes(line)
        checked.prompt(line.prompt, call)

    return check


def _opened(
    options: ProbeCommand, recipe: Recipe, prompts: Sequence[str], call: dict[str, Any], measured: Any
) -> Probe:
    """The probe, with its model loaded."""
    from streamt1_plugins.config.load import names
    from streamt1_plugins.pipeline import load
    from streamt1_plugins.probe.run import Probe, searching
    from streamt1_plugins.process.threads import limited

    pipe = load(options.model, recipe, adapter=options.adapter, device=options.device, trust=True)
    for_the_command(limited(pipe._thread_count(call)))  # a probe works on sessions, without runs that set them
    base = options.recipe if options.recipe in names() and not options.override else None
    return Probe(searching(pipe), prompts, call, measured, options.seed, base)


def _kept(options: ProbeCommand, probed: Probe, prompts: int) -> Any:
    """A context that, where the command ends early, prints what is measured and how to continue."""
    from contextlib import ExitStack

    from streamt1_plugins.probe.run import own_rows

    stack = ExitStack()

    def show(kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if error is not None and not isinstance(error, Exception):
            done = len(own_rows(probed, options.out))
            echo(f"{done} of {prompts} prompts are measured in {options.out}; the same command continues.", err=True)

    stack.push(show)
    return stack


def _show(options: ProbeCommand, found: Probed) -> None:
    from streamt1_plugins.probe import page, run
    from streamt1_plugins.runs.files import to_json
    from streamt1_plugins.text.printable import printable_json

    if options.json:
        echo(printable_json(to_json(found.as_dict())), nl=False)
        return
    for topic, sentences in found.advice.reasons.items():
        echo(f"{topic}\n" + "".join(f"  {sentence}\n" for sentence in sentences))
    echo(f"recipe  {options.out / run.ADVICE}")
    echo(f"page    {options.out / page.PAGE}")
    echo(f"folder  {options.out}  ({run.ROWS}, {run.SUMMARY})")
