"""Loads recipes: YAML files, `extends`, ``key=value`` overrides, and errors that name the key."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import optree
import yaml
from pydantic import BaseModel, ValidationError

from streamt1_plugins.config.renamed import former, upgraded
from streamt1_plugins.config.rewards import FixedCalibration, RewardPart
from streamt1_plugins.config.schema import PARTS, Recipe
from streamt1_plugins.config.trust import Origin, places
from streamt1_plugins.errors import RecipeError, guess, unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_EXTENDS = 8

# The wheel carries recipes/ inside the package; in a checkout it lies beside it.
_FOLDERS = tuple(parent / "recipes" for parent in Path(__file__).parents[1:3])


def names() -> dict[str, Path]:
    """The shipped recipes by name."""
    files = [file for folder in _FOLDERS if folder.is_dir() for file in sorted(folder.rglob("*.yaml"))]
    return {file.stem: file for file in reversed(files)}


def load(source: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a shipped name, a file, plain data or a recipe, with ``key=value`` overrides applied.

    Raises `RecipeError` for a file that is no recipe, an unknown key (with a guess) or a value out of range, and
    `UnknownNameError` for a name that is neither shipped nor a file. The recipe's `origin` has what a file holds.
    """
    if isinstance(source, Recipe):
        data: dict[str, Any] = source.to_data()
        origin = source.origin
    elif isinstance(source, (str, Path)):
        file = find(source)
        data = _extended(file, ())
        origin = Origin() if _is_shipped(file) else Origin.of(data)
    else:
        data = _with_base(dict(source), Path.cwd(), ())
        base = source.get("extends")
        is_own = base is None or _is_shipped(_base(base, Path.cwd()))
        origin = Origin() if is_own else Origin.of(data).without(places(dict(source)))
    for override in overrides:
        _apply(data, override)
        origin = origin.without([tuple(_parsed(override)[0])])
    return _validated(data, str(source) if isinstance(source, (str, Path)) else "recipe").traced(origin)


def recorded(data: Mapping[str, Any]) -> Recipe:
    """The recipe of a recorded run, as `Recipe.model_dump` wrote it. Keys renamed since then are no reason for a note.

    Raises `RecipeError` for data that is no recipe.
    """
    found = upgraded(data, silent=True)
    return _validated(found, "the recorded recipe").traced(Origin.of(found))


def written(text: str, source: str) -> Recipe:
    """The recipe in the text of a complete recipe file, as a run folder has; `extends` is not followed.

    Raises `RecipeError` for text that is no complete recipe; `source` names it.
    """
    data = _yaml(text, source)
    if not isinstance(data, dict):
        raise RecipeError(f"{source} is not a recipe: expected keys and values, found {type(data).__name__}.")
    return _validated(upgraded(data, silent=True), source)


def find(source: str | Path) -> Path:
    """The file behind a shipped name or a path."""
    known = names()
    if str(source) in known:
        return known[str(source)]
    path = Path(source)
    if _is_file(path):
        return path
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        raise RecipeError(f"Recipe file {str(source)!r} does not exist.")
    raise unknown_name("recipe", str(source), known)


def header(path: Path) -> str:
    """The comment block at the top of a recipe file: what it needs and the command that runs it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    block = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return "\n".join(line.removeprefix("#").strip() for line in block)


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested data with dotted keys, as overrides write them."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _extended(path: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    if path in chain:
        raise RecipeError(f"Recipes extend each other in a circle: {' -> '.join(p.name for p in (*chain, path))}.")
    if len(chain) >= MAX_EXTENDS:
        raise RecipeError(f"More than {MAX_EXTENDS} recipes extend each other, starting at {chain[0].name}.")
    return _with_base(_read(path), path.parent, (*chain, path))


def _with_base(data: dict[str, Any], folder: Path, chain: tuple[Path, ...]) -> dict[str, Any]:
    data = upgraded(data)
    base = data.pop("extends", None)
    if base is None:
        return data
    return merged(_extended(_base(base, folder), chain), data)


def _base(name: Any, folder: Path) -> Path:
    """The file that a recipe in `folder` extends."""
    beside = folder / str(name)
    return beside if _is_file(beside) else find(str(name))


def _is_shipped(file: Path) -> bool:
    return file in names().values()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    data = _yaml(text, str(path))
    if not isinstance(data, dict):
        raise RecipeError(f"{path} is not a recipe: expected keys and values, found {type(data).__name__}.")
    return data


def _yaml(text: str, what: str) -> Any:
    try:
        return yaml.load(text, Loader=_NoAliases)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date in month 13
        raise RecipeError(f"{what} is not YAML: {error}") from error


class _NoAliases(yaml.SafeLoader):
    """Plain YAML only: aliases can blow a small file up to gigabytes, and recipes have `extends` instead."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed in recipes; use `extends`")
        return super().compose_node(parent, index)


def merged(base: Mapping[str, Any], over: Mapping[str, Any], parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """The data of `base` with that of `over` on top, merged key by key.

    A part with another `name` replaces the base's part whole, because options of one part do not fit another.
    """
    result = dict(base)
    for key, value in over.items():
        old = _part(result.get(key)) if key in parts else result.get(key)
        result[key] = value
        if isinstance(old, dict) and isinstance(value, dict) and not (key in parts and _renames(value, old)):
            result[key] = merged(old, value, parts=())
    return result


def _part(section: Any) -> Any:
    return {"name": section} if isinstance(section, str) else section


def _renames(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    return new.get("name") not in (None, old.get("name"))


def _apply(data: dict[str, Any], override: str) -> None:
    """Set one ``a.b.c=value`` in the data."""
    (*parents, last), value = _parsed(override)
    section = data
    for name in parents:
        below = _part(section.get(name)) if section is data and name in PARTS else section.get(name)
        if not isinstance(below, dict | None):
            key = override.partition("=")[0].strip()
            raise RecipeError(f"Override {key!r}: {name!r} is a value, not a section.")
        section[name] = dict(below or {})
        section = section[name]
    if last == "name" and len(parents) == 1 and parents[0] in PARTS and _renames({"name": value}, section):
        section.clear()  # options of one part do not fit another
    section[last] = value


def _parsed(override: str) -> tuple[list[str], Any]:
    """The steps of an override's key, renamed where the key has been, and its value, which is YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"Override {override!r} is not of the form key=value, e.g. search.top_k=3.")
    steps = key.strip().split(".")
    nested = _yaml(text, f"The value in override {override!r}")
    for name in reversed(steps):
        nested = {name: nested}
    nested, renamed = upgraded(nested), []
    for _ in steps:
        ((name, nested),) = nested.items()
        renamed.append(name)
    return renamed, nested


def _validated(data: Any, source: str) -> Recipe:
    for steps, value in zip(optree.tree_paths(data), optree.tree_leaves(data), strict=True):
        if isinstance(value, float) and not math.isfinite(value):
            key = ".".join(map(str, steps))
            raise RecipeError(f"{source}: {key} = {value}: runs record recipes as JSON, which has finite numbers only.")
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{source}: " + "; ".join(_problems(error))) from error


def _problems(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        where = ".".join(str(step) for step in problem["loc"] if not _is_alternative(step))
        if problem["type"] == "extra_forbidden":
            known = _keys_beside(problem["loc"])
            yield f"unknown key {where!r}.{guess(str(problem['loc'][-1]), known)} Known: {', '.join(known)}."
        else:
            yield f"{where} = {problem['input']!r}: {problem['msg']}{former(where)}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The known keys of the section an unknown key stands in."""
    model: type[BaseModel] = Recipe
    for step in location[:-1]:
        field = model.model_fields.get(str(step))
        kind = field.annotation if field else FixedCalibration if _is_alternative(step) else RewardPart
        nested = (each for each in (kind, *get_args(kind)) if get_origin(each) is None and isinstance(each, type))
        model = next((each for each in nested if issubclass(each, BaseModel)), model)
    return list(model.model_fields)


def _is_alternative(step: int | str) -> bool:
    """Whether a step of an error's location is not a key: pydantic also names the alternative of a union it tried."""
    return step == FixedCalibration.__name__ or str(step).startswith("literal[")
