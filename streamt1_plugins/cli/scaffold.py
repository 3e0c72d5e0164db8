"""`streamt1 new-reward`, `new-adapter`, `new-policy`: a complete package around a plugin, ready to install and test."""

from __future__ import annotations

import builtins
import keyword
import re
import shlex
from dataclasses import dataclass, field
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamt1_plugins.cli.base import echo
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError
from streamt1_plugins.plugins.offers import POLICY_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEMPLATES = Path(__file__).parent / "templates"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 60  # characters of a name: file systems and registries allow more
YAML_VALUES = ("null", "true", "false")
"""Names that a recipe would read as values."""

Name = Annotated[str, typer.Argument(help="Lower case, words joined by hyphens: warm-light.")]
Folder = Annotated[Path | None, typer.Argument(metavar="[DIR]", help="New or empty; default streamt1-NAME.")]
Kind = Enum("Kind", {kind: kind for kind in POLICY_KINDS}, type=str)  # type: ignore[misc]  # read by typer

SEARCHES = {
    "width": ('"search.top_k=1"', "[len(pipe.tree.chunk(index)) for index in range(3)] == [6, 2, 2]"),
    "noise": ("", "len({node.seed for node in pipe.tree.chunk(1)}) == 2"),
    "scoring": ("", "all(node.score == (node.short + node.long) / 2 for node in pipe.tree)"),
    "revision": ("", "{node.round for node in pipe.tree.chunk(1)} == {0, 1}"),
    "selection": ("", "len({node.parent for node in pipe.tree.kept(2)}) == 2"),
    "memory": ("", '[node.route for node in pipe.tree.kept(2)] == ["append"] * 2'),
    "observer": ("", "len(self.policy.scores) == len(pipe.tree.winner) == 3"),
}
"""By kind of policy: the overrides of a search in its tests, and what the search shows of the template's policy."""


def new_reward(name: Name, folder: Folder = None) -> None:
    """Write a package with a reward, its entry point, tests and a README."""
    _announced(Scaffold("reward", name), folder)


def new_adapter(name: Name, folder: Folder = None) -> None:
    """Write a package with an adapter of a toy pipeline, its entry point, tests and a README."""
    _announced(Scaffold("adapter", name), folder)


def new_policy(
    name: Name,
    kind: Annotated[Kind, typer.Option(help="What it decides; an observer follows a run.", show_default=False)],
    folder: Folder = None,
) -> None:
    """Write a package with a policy or an observer, its entry point, tests and a README."""
    _announced(Scaffold("policy", name, kind.value), folder)


def _announced(made: Scaffold, folder: Path | None) -> None:
    """Write the package and print its files, and what to do next."""
    made.check()
    folder = user_path(folder or f"streamt1-{made.name}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty. Choose another folder: streamt1 new-{made.template} {made.name} DIR.")
    for path in made.write(folder):
        echo(path)
    echo(f"\nNext: pip install -e {shlex.quote(f'{folder}[test]')}, then pytest in {shlex.quote(str(folder))}.")


@dataclass(frozen=True)
class Scaffold:
    """The package of a new plugin. template: the folder with its files. section: of a recipe, where it is a policy."""

    template: str
    name: str
    section: str = ""
    module: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "module", f"streamt1_{self.name.replace('-', '_')}")

    @property
    def kind(self) -> str:
        """The word for such a plugin."""
        return f"{self.section} policy" if self.section not in ("", "observer") else self.section or self.template

    @property
    def article(self) -> str:
        return "an" if self.kind[0] in "ao" else "a"

    @property
    def words(self) -> Mapping[str, str]:
        """What stands for the names in the templates."""
        stem = "".join(word.capitalize() for word in self.name.split("-"))
        key = f"observers.{self.name}={{}}" if self.section == "observer" else f"{self.section}={self.name}"
        more, check = SEARCHES.get(self.section, ("", ""))
        return {
            "name": self.name,
            "module": self.module,
            "distribution": f"streamt1-{self.name}",
            "kind": self.kind,
            "section": self.section,
            "classname": f"{stem}Adapter" if self.template == "adapter" else self._classname(stem),
            "session": f"{stem}Session",
            "pipeline": f"{stem}Pipeline",
            "override": shlex.quote(key),
            "more": more,
            "check": check,
        }

    def _classname(self, stem: str) -> str:
        """A name for the class that means nothing else, neither in Python nor in the files of the package."""
        text = "\n".join(template.read_text(encoding="utf-8") for _, template in self._files())
        is_taken = keyword.iskeyword(stem) or hasattr(builtins, stem) or re.search(rf"\b(Test)?{stem}\b", text)
        return f"{stem}{(self.section or self.template).capitalize()}" if is_taken else stem

    def _files(self) -> Iterator[tuple[str, Path]]:
        """The files of the package, by their place in it, and the template of each."""
        folder, own = TEMPLATES / self.template, {f"{kind}.py" for kind in POLICY_KINDS}
        yield "pyproject.toml", TEMPLATES / "pyproject.toml.txt"
        for template in sorted(folder.iterdir()):
            file = template.name.removesuffix(".txt")
            if file.startswith("test_"):
                yield f"tests/{file}", template
            elif file.endswith(".md"):
                yield file, template
            elif self.section and file in own:
                if file == f"{self.section}.py":
                    yield f"{self.module}/policy.py", template
            else:
                yield f"{self.module}/{file}", template

    def write(self, folder: Path) -> list[Path]:
        """Write the package into `folder`; returns the files. Raises `InputError` if it cannot."""
        words, made = self.words, []
        try:
            for place, template in sorted(
                self._files(),
                key=lambda file: (file[0].startswith("tests"), "/" in file[0], file[0] == "README.md", file[0]),
            ):
                path = folder / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(Template(template.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
                made.append(path)
        except OSError as error:
            raise InputError(f"Cannot write to {folder}: {error}.") from error
        return made

    def check(self) -> None:
        """Raise `InputError` for a name that cannot be one, or that something else has."""
        from streamt1_plugins.plugins.discovery import discovery

        found = discovery()
        if not NAME.fullmatch(self.name) or len(self.name) > LONGEST:
            raise self._refused(f"lower case letters and digits, words joined by hyphens, at most {LONGEST} characters")
        if self.name in YAML_VALUES:
            raise self._refused("a recipe would read it as a value. Add a word")
        tables: dict[str, Any] = {"reward": found.rewards, "adapter": found.adapters}
        table = tables[self.template] if self.template in tables else found.policies[self.section]  # type: ignore[index]
        if self.name in table:
            where = table[self.name].origin
            raise InputError(
                f"There is {self.article} {self.kind} {self.name!r} already, from {where}: choose another."
            )
        if self.name in found.plugins:
            raise InputError(
                f"There is a plugin {self.name!r} already, from {found.plugins[self.name]}: choose another."
            )
        if spec := find_spec(self.module):
            where = spec.origin or self.module
            raise InputError(
                f"There is a module {self.module!r} already, {where}: choose another name than {self.name!r}."
            )
        for entry in found.adapters.values() if self.template == "adapter" else ():
            if self.words["pipeline"] in entry.pipelines:
                raise self._refused(f"{self.words['pipeline']} is driven by {entry.name!r} already. Choose another")

    def _refused(self, why: str) -> InputError:
        return InputError(f"No {self.kind} can be called {self.name!r}: {why}.")
