"""The documentation as a site: ``sphinx-build -W docs build/site``. Reads nothing from the network.

The pages are the Markdown files of this folder, which stay readable in the repository: the table of contents and the
links that only the repository can follow are handled here. API pages are written to ``docs/api/`` from the modules in
the tree, so a new policy, reward or toolkit module appears without an edit.
"""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(ROOT / "adapters"), str(ROOT / "rewards"), str(ROOT / "studio")]

import streamt1_plugins as streamt1  # noqa: E402  (the path comes first)

project = "streamt1-plugins"
copyright = "the streamt1-plugins authors, Apache-2.0"
version = release = streamt1.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["evidence/*/summary.md"]
default_role = "code"
myst_heading_anchors = 3
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
suppress_warnings = ["ref.python"]  # `Recipe` has two pages: as a public name and in the recipe schema
python_use_unqualified_type_names = True
maximum_signature_line_length = 100

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sphinx = False

CONTENTS = {
    "Tutorial": ["tutorial"],
    "How-to guides": [
        "python",
        "takes",
        "rewards",
        "hooks",
        "adapters",
        "adapters/wan",
        "scaling",
        "hosts",
        "studio",
        "tree",
        "teams",
        "trust",
        "search",
        "data",
        "probe",
    ],
    "Reference": [
        "api",
        "recipes",
        "plugins",
        "cli",
        "cli-help",
        "stability",
        "api/public",
        "api/hooks",
        "api/errors",
        "api/recipe",
        "api/policies",
        "api/observers",
        "api/rewards",
        "api/adapters",
        "api/testing",
        "api/seams",
        "api/backbones",
    ],
    "Explanation": ["concepts", "evidence/README", "evidence/teacher", "benchmarks", "design"],
}
ARGUMENT = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*): (.*)")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")


def setup(app: Sphinx) -> None:
    """Connects the steps of this file to the build."""
    app.connect("builder-inited", write_api_pages)
    app.connect("source-read", prepare_page)
    app.connect("autodoc-process-docstring", list_arguments)


def prepare_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Adds the contents to the first page and unlinks files outside docs/, which are not on the site."""
    folder = (DOCS / name).parent
    source[0] = LINK.sub(partial(_unlinked, folder), source[0])
    if name == "index":
        source[0] += "".join(map(_toctree, CONTENTS, CONTENTS.values()))


def _unlinked(folder: Path, link: re.Match[str]) -> str:
    text, target = link.groups()
    return link[0] if DOCS in (folder / target).resolve().parents else text


def _toctree(caption: str, pages: Iterable[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def list_arguments(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Makes a list of the lines ``argument: meaning`` of a docstring; lines that follow belong to the same item."""
    made: list[str] = []
    inside = False
    for line in lines:
        found = ARGUMENT.match(line)
        if found:
            made += ([] if inside else [""]) + [f"* ``{found[1]}``: {found[2]}"]
        elif inside and line:
            made.append(f"  {line.strip()}")
        else:
            made.append(line)
        inside = bool(found) or (inside and bool(line))
    lines[:] = made


def write_api_pages(app: Sphinx) -> None:
    """Writes ``docs/api/*.rst``; a page that did not change keeps its time, so that a second build is quick."""
    folder = DOCS / "api"
    folder.mkdir(exist_ok=True)
    for name, (title, introduction, directives) in api_pages().items():
        text = "\n\n".join([f"{title}\n{'=' * len(title)}", introduction, *directives]) + "\n"
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def api_pages() -> dict[str, tuple[str, str, list[str]]]:
    """Title, introduction and directives of every API page."""
    core = "streamt1_plugins"
    return {
        "public": (
            "Public names",
            "What ``import streamt1_plugins as streamt1`` offers. These names are :doc:`stable <../stability>`.",
            [_documented(name) for name in streamt1.__all__],
        ),
        "hooks": (
            "Hook specifications",
            "Signatures and docstrings. :doc:`../hooks` has an example of each.",
            modules(f"{core}/api/hookspecs.py", f"{core}/api/register.py"),
        ),
        "errors": ("Errors", "Every error raised on purpose.", modules(f"{core}/errors.py")),
        "recipe": (
            "Recipe schema",
            "The sections of a recipe as classes. :doc:`../recipes` explains every key.",
            modules(f"{core}/config/schema.py", f"{core}/config/rewards.py"),
        ),
        "policies": ("Policies", "The built-in techniques, a module each.", modules(f"{core}/policies/*.py")),
        "observers": ("Observers", "The built-in observers.", modules(f"{core}/runs/observers/*.py")),
        "rewards": ("Reward classes", "Every reward in the package, with its options.", modules(*REWARDS)),
        "adapters": ("Adapter classes", "Every adapter, with its options.", modules("adapters/*/adapter.py")),
        "testing": ("Test contracts", "Tests for a plugin to subclass.", modules(f"{core}/testing/*.py")),
        "seams": ("Toolkit for adapters", "Package ``streamt1_seams``.", modules("adapters/streamt1_seams/*.py")),
        "backbones": (
            "Toolkit for rewards",
            "Package ``streamt1_backbones``.",
            modules("rewards/streamt1_backbones/*.py"),
        ),
    }


REWARDS = [f"rewards/*/{name}.py" for name in ("reward", "rewards", "flow")]


def modules(*patterns: str) -> list[str]:
    """An automodule directive for each module that matches patterns such as ``adapters/*/adapter.py``."""
    paths = sorted(path for pattern in patterns for path in ROOT.glob(pattern) if path.name != "__init__.py")
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in paths]
    names = [".".join(each[each[0] in ("adapters", "rewards") :]) for each in parts]
    return [f"{name}\n{'-' * len(name)}\n\n.. automodule:: {name}" for name in names]


def _documented(name: str) -> str:
    value = getattr(streamt1, name)
    kind = "class" if isinstance(value, type) else "function" if callable(value) else "data"
    return f".. auto{kind}:: streamt1_plugins.{name}"
