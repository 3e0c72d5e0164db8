"""`streamt1 new-reward`: a complete package around a reward of your own, ready to install and to test."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from streamt1_plugins.cli.base import echo
from streamt1_plugins.config.user_files import user_path
from streamt1_plugins.errors import InputError

TEMPLATES = Path(__file__).parent / "templates" / "reward"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new_reward(
    name: Annotated[str, typer.Argument(help="Lower case, words joined by hyphens: warm-light.")],
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="New or empty; default streamt1-NAME.")] = None,
) -> None:
    """Write a package with a reward, its entry point, tests and a README."""
    _check(name)
    folder = user_path(folder or f"streamt1-{name}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty. Choose another folder: streamt1 new-reward {name} DIR.")
    for path in write(name, folder):
        echo(path)
    echo(f"\nNext: pip install -e {folder}[test], then pytest in {folder}.")


def write(name: str, folder: Path) -> list[Path]:
    """Write the package of the reward `name` into `folder`; returns the files. Raises `InputError` if it cannot."""
    module = f"streamt1_{name.replace('-', '_')}"
    words = {
        "name": name,
        "module": module,
        "distribution": f"streamt1-{name}",
        "classname": "".join(word.capitalize() for word in name.split("-")),
    }
    places = {
        "pyproject.toml": folder,
        "README.md": folder,
        "__init__.py": folder / module,
        "reward.py": folder / module,
        "test_reward.py": folder / "tests",
    }
    try:
        return [_write(file, place, words) for file, place in places.items()]
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {error}.") from error


def _write(file: str, place: Path, words: dict[str, str]) -> Path:
    template = Template((TEMPLATES / f"{file}.txt").read_text(encoding="utf-8"))
    place.mkdir(parents=True, exist_ok=True)
    path = place / file
    path.write_text(template.substitute(words), encoding="utf-8")
    return path


def _check(name: str) -> None:
    """Refuse a name that cannot be a distribution, a module and a class, or that is registered already."""
    from streamt1_plugins.plugins.discovery import discovery

    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise InputError(f"{name!r} is no name for a reward: lower case letters and digits, joined by hyphens.")
    if name in discovery().rewards:
        raise InputError(
            f"There is a reward {name!r} already, from {discovery().rewards[name].origin}: choose another."
        )
    if name in discovery().plugins:
        raise InputError(f"There is a plugin {name!r} already, from {discovery().plugins[name]}: choose another.")
