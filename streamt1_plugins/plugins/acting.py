"""What a recipe makes happen outside its run, and the one gate between a recipe from elsewhere and all of that."""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal

from streamt1_plugins.api.types import HORIZONS
from streamt1_plugins.config import trust
from streamt1_plugins.config.schema import Recipe
from streamt1_plugins.config.trust import Origin
from streamt1_plugins.errors import TrustError
from streamt1_plugins.plugins.discovery import discovery
from streamt1_plugins.plugins.given import POLICY_SECTIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from streamt1_plugins.config.trust import Steps
    from streamt1_plugins.plugins.registry import Entry

ActKind = Literal["program", "url", "read", "write", "upload", "text"]
"""What an option does outside a run. Authors mark theirs: ``path: str = field(metadata={"acts": "write"})``."""

EFFECTS: dict[ActKind, str] = {
    "program": "starts this program",
    "url": "connects to this address",
    "read": "reads there",
    "write": "writes there",
    "upload": "sends the run to a service",
}
WRITTEN = re.compile(r"path|file|folder|dir|out", re.IGNORECASE)
"""Names of an observer's options that count as `write` where the author has marked nothing."""

SHOWN = 120
"""Characters of a value in a message."""


@dataclasses.dataclass(frozen=True)
class Act:
    """One thing that a recipe makes happen: the `place` of the value in the recipe, its kind, the value."""

    place: Steps
    kind: ActKind
    value: str

    def __str__(self) -> str:
        return f"{_short('.'.join(self.place))} = {_short(self.value)!r} {EFFECTS[self.kind]}"


def agreed(
    recipe: Recipe,
    trusted: bool | Recipe = False,
    *,
    folder: Path | None = None,
    unused: Collection[str] = (),
) -> Recipe:
    """The recipe with everything in it agreed to, so that it may run.

    trusted: whether the user agreed to whatever it names; or a recipe of the user's, which may name the same.
    folder: the run folder, where a recorded run may write. unused: sections that do not act this time.

    Raises `TrustError` with the list of what a file or a record names and neither the user nor their list allows.
    """
    if recipe.origin.agreed:
        return recipe
    if trusted is not True:
        known = {(act.place, act.value) for act in acts(trusted)} if isinstance(trusted, Recipe) else set()
        found = [act for act in waiting(recipe, folder) if act.place[0] not in unused]
        if found := [act for act in found if (act.place, act.value) not in known]:
            raise _refused(found)
    return recipe.traced(Origin(agreed=trusted is True, name=recipe.origin.name))


def waiting(recipe: Recipe, folder: Path | None = None) -> list[Act]:
    """What a file or a record names and nothing allows yet. A recipe of the user's own words has nothing of it."""
    if not recipe.origin.foreign:
        return []
    return [act for act in acts(recipe) if recipe.origin.covers(_unit(act)) and not _is_allowed(act, folder)]


def acts(recipe: Recipe) -> list[Act]:
    """Everything in a recipe that starts, reads, writes or contacts something outside the run, with its place."""
    found = [] if recipe.model is None else list(_by_value(("model",), recipe.model))
    found += _options(("adapter",), discovery().adapters.get(str(recipe.adapter.name)), recipe.adapter.options)
    for kind in POLICY_SECTIONS:
        section = getattr(recipe, kind)
        found += _options((kind,), discovery().policies[kind].get(section.name), section.options)
    for horizon in HORIZONS:
        for name, settings in getattr(recipe.rewards, horizon).items():
            place = ("rewards", horizon, name)
            if settings.where is not None and settings.where.python is not None:
                found.append(Act((*place, "where", "python"), "program", settings.where.python))
            if settings.where is not None and settings.where.url is not None:
                found.append(Act((*place, "where", "url"), "url", settings.where.url))
            found += _options((*place, "options"), discovery().rewards.get(name), settings.options)
    for name, options in recipe.observers.items():
        found += _options(("observers", name), discovery().policies["observer"].get(name), options)
    return found


def marks(entry: Entry) -> dict[str, ActKind]:
    """What the options of a plugin do, by name, for those that its author has marked."""
    return {each.name: each.metadata["acts"] for each in fields(entry) if "acts" in each.metadata}


def fields(entry: Entry) -> tuple[dataclasses.Field[Any], ...]:
    """The options of a plugin; none where it is no dataclass, which `build.instance` refuses."""
    kind = entry.load()
    return tuple(each for each in dataclasses.fields(kind) if each.init) if dataclasses.is_dataclass(kind) else ()


def _options(place: Steps, entry: Entry | None, options: Mapping[str, Any]) -> Iterator[Act]:
    """The acts of a plugin's options. One that uploads does so with its defaults too."""
    marked = marks(entry) if entry is not None else {}
    defaults = _defaults(entry) if entry is not None else {}
    silent = {name: defaults.get(name) for name, kind in marked.items() if kind == "upload"}
    for name, value in {**silent, **options}.items():
        kind, here = marked.get(name), (*place, name)
        if kind is None and place[0] == "observers" and isinstance(value, str) and WRITTEN.search(name):
            kind = "write"
        if kind is None:
            yield from _by_value(here, value)
        elif kind != "text" and value is not None:
            yield Act(here, kind, str(value))


def _defaults(entry: Entry) -> dict[str, Any]:
    return {each.name: each.default for each in fields(entry) if each.default is not dataclasses.MISSING}


def _by_value(place: Steps, value: Any) -> Iterator[Act]:
    """The acts of an option that nobody has marked: by what its texts look like."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _by_value((*place, str(name)), each)
    elif isinstance(value, (list, tuple)):
        for number, each in enumerate(value):
            yield from _by_value((*place, str(number)), each)
    elif isinstance(value, (str, PurePath)):
        text = str(value)
        if trust.URL.match(text) or text.startswith(("//", "\\\\")):
            yield Act(place, "url", text)
        elif _is_elsewhere(text) or not trust.is_inside(text, "."):
            yield Act(place, "read", text)


def _is_elsewhere(text: str) -> bool:
    """Whether a text is a path that leads out of the current folder, on any system."""
    path = PureWindowsPath(text)  # takes both kinds of slashes
    return bool(path.drive or path.root) or text.startswith("~") or ".." in path.parts


def _unit(act: Act) -> Steps:
    """The part of a recipe that makes something act: a service is switched on by the name of its observer."""
    return act.place[:2] if act.kind == "upload" else act.place


def _is_allowed(act: Act, folder: Path | None) -> bool:
    if act.kind == "program":
        return trust.is_listed_program(act.value)
    if act.kind == "url":
        return trust.is_listed_server(act.value)
    if act.kind == "upload":
        return act.place[1] in trust.listed()
    if act.place == ("model",):  # weights and configurations are read as data, see docs/trust.md
        return True
    return trust.is_listed_file(act.value) or (folder is not None and trust.is_inside(act.value, folder))


def _refused(found: list[Act]) -> TrustError:
    return TrustError(
        f"A recipe file or a run folder is data until you agree to what it names: {'; '.join(map(str, found))}. "
        "If you know where it comes from and agree to each, repeat this with --trust (Python: trust=True), or put what "
        f"you allow into {trust.TRUST}, e.g. {trust.TRUST}={_entry(found[0])}. See docs/trust.md."
    )


def _entry(act: Act) -> str:
    return repr(_short(act.place[1] if act.kind == "upload" else act.value))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
