"""`streamt1 recipes`: list, show, copy, validate, diff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from streamt1_plugins.cli import estimates
from streamt1_plugins.cli.base import USER_ERROR, Trust, complain, echo, terminal
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError, OutputError, StreamT1Error
from streamt1_plugins.text.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamt1_plugins.config.schema import Recipe

app = typer.Typer(no_args_is_help=True, help="List, show, copy, validate and compare recipes.")

Override = Annotated[
    list[str] | None,
    typer.Option("--override", "-o", metavar="KEY=VALUE", help="Change this key in every recipe named."),
]
Name = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A shipped recipe or a YAML file.", show_default=False)]


@app.command("list")
def list_recipes() -> None:
    """List the shipped recipes."""
    from streamt1_plugins.config import load as recipes

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, path in sorted(recipes.names().items()):
        table.add_row(f"[bold]{escape(name)}[/bold]", escape(one_line(_line(path))))
    terminal().print(table)


@app.command()
def show(
    recipe: Name,
    resolved: Annotated[bool, typer.Option("--resolved", help="With everything it extends and every default.")] = False,
    override: Override = None,
) -> None:
    """Print a recipe as YAML; with keys changed, as --resolved does."""
    from streamt1_plugins.config import load as recipes

    text = _resolved(recipe, override).to_yaml() if resolved or override else recipes.read(recipes.find(recipe))
    echo(text, nl=False)


@app.command()
def copy(
    recipe: Name,
    file: Annotated[Path, typer.Argument(help="Where to write it.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Copy a recipe to a file, to change it."""
    from streamt1_plugins.config import load as recipes

    text = recipes.read(recipes.find(recipe))
    file = user_path(file)
    if file.exists() and not force:
        raise OutputError(f"{file} exists. Overwrite it with --force.")
    _write(file, text)
    echo(f"{file}  (run it with: streamt1 generate PROMPT --recipe {file})")


@app.command()
def validate(
    recipes: Annotated[
        list[str], typer.Argument(metavar="NAME|FILE...", help="Shipped recipes or YAML files.", show_default=False)
    ],
    override: Override = None,
    model: Annotated[
        str | None, typer.Option(help="As for generate. Default: the recipe's, else tinyworld-student.")
    ] = None,
    num_frames: Annotated[
        int | None, typer.Option(help="Frames of the video. Default: the recipe's, else the adapter's.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check the prompts of this file too, one per line.")
    ] = None,
    trust: Trust = False,
) -> None:
    """Check recipes, every key, name and option, and print the cost and the memory of a video. Loads no weights."""
    bad = 0
    for recipe in recipes:
        try:
            resolved = _resolved(recipe, override, model)
            if num_frames is not None:
                resolved = resolved.with_video(num_frames=num_frames)
            _check_calls(resolved, prompts)
            lines = [estimates.cost(resolved), estimates.memory(resolved), *_elsewhere(resolved, trust)]
        except StreamT1Error as error:
            bad += 1
            complain(f"{recipe}: {error}")
        else:
            echo("\n       ".join([f"OK     {recipe}", *lines]))
    if bad:
        raise typer.Exit(USER_ERROR)


@app.command()
def schema(
    file: Annotated[Path | None, typer.Argument(help="Where to write it. Default: standard output.")] = None,
) -> None:
    """Print the JSON Schema of recipes, for editors."""
    from streamt1_plugins.config import json_schema

    if file is None:
        echo(json_schema.text(), nl=False)
    else:
        _write(user_path(file), json_schema.text())
        echo(file)


@app.command()
def diff(recipe: Name, other: Name, override: Override = None) -> None:
    """Show the keys in which two recipes differ, with every default written out."""
    from streamt1_plugins.config.merge import flat

    first, second = (flat(_resolved(each, override).model_dump(mode="json")) for each in (recipe, other))
    keys = [key for key in {**first, **second} if key != "description" and first.get(key) != second.get(key)]
    if not keys:
        echo("No difference.")
        return
    table = Table("key", escape(recipe), escape(other), box=None, pad_edge=False, header_style="dim")
    for key in keys:
        table.add_row(escape(key), *(escape(one_line(each[key])) if key in each else "-" for each in (first, second)))
    terminal().print(table)


def _write(file: Path, text: str) -> None:
    from streamt1_plugins.runs.files import write_atomically, writing

    with writing(f"{file} cannot be written"):
        write_atomically(file, text)


def _elsewhere(recipe: Recipe, trusted: bool) -> list[str]:
    """What the recipe names that acts only with --trust, and what could not be checked without it."""
    from streamt1_plugins.plugins.acting import agreed, waiting
    from streamt1_plugins.plugins.check import elsewhere

    recipe = agreed(recipe, True) if trusted else recipe
    return [*(f"needs --trust: {act}" for act in waiting(recipe)), *elsewhere(recipe)]


def _resolved(name: str, overrides: Sequence[str] | None = None, model: str | None = None) -> Recipe:
    """The complete recipe, with every part built once to check it."""
    from streamt1_plugins.config.overrides import refuse_double
    from streamt1_plugins.plugins import build
    from streamt1_plugins.plugins.resolve import resolve

    refuse_double(overrides or (), model=model)
    recipe = resolve(name, model, overrides=overrides or ())
    build.rewards(recipe)
    build.observers(recipe, _recording(recipe))
    return recipe


def _recording(recipe: Recipe) -> dict[str, object]:
    """The observers that `generate` adds."""
    from streamt1_plugins.runs.observers.record import recorders

    return recorders("runs/NAME", recipe.observers)


def _check_calls(recipe: Recipe, prompts: Path | None) -> None:
    """Raise `InputError` for a length, or for prompts of a file, that `generate` would refuse."""
    from streamt1_plugins.config.prompt_file import PromptLine, prompt_lines
    from streamt1_plugins.plugins.check import Checked

    checked = Checked.of(recipe, _recording(recipe))
    checked.call({})

    def check(line: PromptLine) -> None:
        checked.prompt(line.prompt, line.call)

    lines = [] if prompts is None else prompt_lines(user_path(prompts), check)
    if wrong := [f"line {line.number}: {line.problem}" for line in lines if line.problem]:
        raise InputError(f"{prompts}: {'; '.join(wrong)}")


def _line(path: Path) -> str:
    """A recipe's description, or the reason why it cannot be read, in one line."""
    from streamt1_plugins.config import load as recipes

    try:
        described = recipes.load(path).description
    except StreamT1Error as error:
        return f"cannot be read: {error}"
    return described or recipes.header(path).partition("\n")[0]
