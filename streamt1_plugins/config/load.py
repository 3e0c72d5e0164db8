"""Loads recipes: a name, a file or data, what it extends, its overrides; errors name the file and the key."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from streamt1_plugins.config import overrides as changes
from streamt1_plugins.config import user_files, yaml12
from streamt1_plugins.config.merge import merged
from streamt1_plugins.config.plain import plain
from streamt1_plugins.config.renamed import former, upgraded
from streamt1_plugins.config.rewards import HORIZONS, DecodeByHorizon, FixedCalibration, RewardPart, RewardSettings
from streamt1_plugins.config.schema import Recipe
from streamt1_plugins.config.trust import Origin, places
from streamt1_plugins.errors import InputError, RecipeError, UnknownNameError, guess, shown, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_EXTENDS = 8
MAX_BYTES = 200_000
"""Of a recipe file; the shipped ones have fewer than 2,000."""

SHOWN = 5
"""Mistakes in one message."""

_ALTERNATIVES: dict[str, type[BaseModel]] = {each.__name__: each for each in (FixedCalibration, DecodeByHorizon)}
"""Sections that stand where a single value may stand too."""

WRITTEN_OUT = RewardSettings.model_fields.keys() - {"replace"}
"""The keys of `rewards` in the recipe.yaml of every run, also of versions that had no other."""

# The wheel carries recipes/ inside the package; in a checkout it lies beside it.
_FOLDERS = tuple(parent / "recipes" for parent in Path(__file__).parents[1:3])


def names() -> dict[str, Path]:
    """The shipped recipes by name."""
    files = [file for folder in _FOLDERS if folder.is_dir() for file in sorted(folder.rglob("*.yaml"))]
    return {file.stem: file for file in reversed(files)}


def shipped_recipes() -> dict[str, str]:
    """The shipped recipes by name, each with its description."""
    return {name: load(name).description for name in sorted(names())}


def load(source: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a shipped name, a file, plain data or a recipe, with ``key=value`` overrides applied.

    Raises `RecipeError` for a file that is no recipe, an unknown key (with a guess) or a value out of range, and
    `UnknownNameError` for a name that is neither shipped nor a file. The recipe's `origin` has what a file holds.
    """
    data, what, origin = _data_of(source)
    for steps in changes.apply(data, overrides):
        origin = origin.without([tuple(steps)])
    return _validated(data, what).traced(origin)


def _data_of(source: Any) -> tuple[dict[str, Any], str, Origin]:
    """The data of a recipe, what it is called in errors, and whose words it holds."""
    if isinstance(source, str | Path):
        file = find(source)
        data = _extended(file, ())
        return data, str(source), Origin(name=file.stem) if _is_shipped(file) else Origin.of(data, file.stem)
    if isinstance(source, Recipe):
        return plain(source.to_data()), "recipe", source.origin
    if not isinstance(source, Mapping):
        raise RecipeError(f"A recipe is a shipped name, a file, a mapping or a Recipe, not a {type(source).__name__}.")
    own = plain(source)
    data = _with_base(own, Path.cwd(), ())
    base = _base(own, Path.cwd(), ())
    is_own = base is None or _is_shipped(base)
    return data, "recipe", Origin() if is_own else Origin.of(data).without(places(_filled(own)))


def _filled(data: dict[str, Any]) -> dict[str, Any]:
    """The data without empty sections, which change nothing of what they are merged with."""
    filled = {key: _filled(value) if isinstance(value, dict) else value for key, value in data.items()}
    return {key: value for key, value in filled.items() if value != {}}


def recorded(data: Mapping[str, Any], name: str = "") -> Recipe:
    """The recipe of a recorded run, as `Recipe.model_dump` wrote it. Keys renamed since then are no reason for a note.

    name: what it went by.

    Raises `RecipeError` for data that is no recipe.
    """
    what = "the recorded recipe"
    if not isinstance(data, Mapping):
        raise RecipeError(f"{what} has no keys and values, but is a {type(data).__name__}.")
    found = _complete(upgraded(plain(data, what), silent=True))
    return _validated(found, what).traced(Origin.of(found, name))


def written(text: str, source: str) -> Recipe:
    """The recipe in the text of a complete recipe file, as a run folder has; `extends` is not followed.

    Raises `RecipeError` for text that is no complete recipe; `source` names it.
    """
    return _validated(_complete(upgraded(_sections(text, source), silent=True)), source)


def _complete(data: dict[str, Any]) -> dict[str, Any]:
    """The data of a recorded recipe, whose rewards are all there are, also where it is older than that key."""
    rewards = data.get("rewards")
    if isinstance(rewards, dict) and any(rewards.get(horizon) for horizon in HORIZONS):
        data["rewards"] = {"replace": True, **rewards}
    return data


def _sections(text: str, source: str) -> dict[str, Any]:
    data = yaml12.read(text, source)
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise RecipeError(f"{source} is not a recipe: expected keys and values, found {found}.")
    copy: dict[str, Any] = plain(data, source)
    is_record = isinstance(copy.get("rewards"), dict) and copy["rewards"].keys() >= WRITTEN_OUT
    return _complete(copy) if is_record else copy


def find(source: str | Path) -> Path:
    """The file behind a shipped name or a path."""
    known = names()
    if str(source) in known:
        return known[str(source)]
    try:
        path = user_files.user_path(source)
    except InputError as error:
        raise RecipeError(str(error)) from error
    if user_files.is_file(path):
        return path
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        raise RecipeError(_why_no_file(path))
    raise unknown_name("recipe", str(source), known)


def _why_no_file(path: Path) -> str:
    try:
        user_files.read_text(path, "Recipe file", MAX_BYTES)
    except InputError as error:
        return str(error)
    return f"Recipe file {str(path)!r} appeared only now: try again."


def read(path: Path) -> str:
    """The text of a recipe file. Raises `RecipeError` for a file that cannot be one."""
    try:
        return user_files.read_text(path, "Recipe file", MAX_BYTES)
    except InputError as error:
        raise RecipeError(str(error)) from error


def header(path: Path) -> str:
    """The comment block at the top of a recipe file: what it needs and the command that runs it."""
    block = itertools.takewhile(lambda line: line.startswith("#"), user_files.lines(read(path)))
    return "\n".join(line.removeprefix("#").strip() for line in block)


def _extended(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in chain:
        raise RecipeError(f"Recipes extend each other in a circle: {' -> '.join(p.name for p in (*chain, path))}.")
    if len(chain) >= MAX_EXTENDS:
        raise RecipeError(f"More than {MAX_EXTENDS} recipes extend each other, starting at {chain[0].name}.")
    return _with_base(_sections(read(path), str(path)), path.parent, (*chain, path))


def _with_base(data: dict[str, Any], folder: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    base = _base(data, folder, chain)
    own = {key: value for key, value in upgraded(data).items() if key != "extends"}
    return own if base is None else merged(_extended(base, chain), own)


def _base(data: Mapping[str, Any], folder: Path, chain: tuple[Path, ...]) -> Path | None:
    """The file that a recipe in `folder` extends, None for no file."""
    name, what = data.get("extends"), f"{chain[-1] if chain else 'recipe'}: extends"
    if name is None:
        return None
    if not isinstance(name, str):
        raise RecipeError(f"{what} = {shown(name)}: expected the name of a shipped recipe or a file, as text.")
    beside = folder / name
    try:
        return beside if user_files.is_file(beside) else find(name)
    except RecipeError as error:
        raise RecipeError(f"{what}: {_why_no_file(beside)}") from error
    except UnknownNameError as error:
        raise UnknownNameError(f"{what}: {error}") from error


def _is_shipped(file: Path) -> bool:
    return file in names().values()


def _validated(data: dict[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        found = list(_problems(error))
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise RecipeError(f"{source}: " + "; ".join([*found[:SHOWN], *more])) from error


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        where = ".".join(str(step) for step in problem["loc"] if not _is_alternative(step))
        if problem["type"] == "extra_forbidden":
            known = _keys_beside(problem["loc"])
            yield f"unknown key {where!r}.{guess(str(problem['loc'][-1]), known)} Known: {', '.join(known)}."
        else:
            message = problem["msg"].removeprefix("Value error, ")
            yield f"{where} = {shown(problem['input'])}: {message}{former(where)}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The known keys of the section an unknown key stands in."""
    model: type[BaseModel] = Recipe
    for step in location[:-1]:
        field = model.model_fields.get(str(step))
        kind = field.annotation if field else _ALTERNATIVES.get(str(step), RewardPart)
        nested = (each for each in (kind, *get_args(kind)) if get_origin(each) is None and isinstance(each, type))
        model = next((each for each in nested if issubclass(each, BaseModel)), model)
    return list(model.model_fields)


def _is_alternative(step: int | str) -> bool:
    """Whether a step of an error's location is not a key: pydantic also names the alternative of a union it tried."""
    return step in _ALTERNATIVES or str(step).startswith("literal[")
