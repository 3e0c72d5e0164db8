"""The generated parts of docs/design.md, from the tree: floors, rooms with their files, and packages.

python tests/docs/design_map.py      # writes them into the page
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORE = ROOT / "streamt1_plugins"
PAGE = ROOT / "docs" / "design.md"
LAYERS = re.compile(r"^layers = \[\n(.*?)^\]", re.DOTALL | re.MULTILINE)


def summary(module: Path) -> str:
    """The first line of a module's docstring, as a cell of a Markdown table."""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].replace("``", "`").replace("|", "\\|")


def floors() -> str:
    """The layers of the import contract, the top one first."""
    found = LAYERS.search((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert found, "pyproject.toml has no import contract with layers"
    return "\n".join(["```text", *re.findall(r'"(.*?)"', found[1]), "```"])


def rooms() -> str:
    """A table of files for the root and for every room, subfolders included."""
    folders = [CORE, *sorted(path.parent for path in CORE.glob("*/__init__.py"))]
    return "\n\n".join(_room(folder) for folder in folders)


def _room(folder: Path) -> str:
    files = sorted(folder.glob("*.py") if folder == CORE else folder.rglob("*.py"))
    rows = [f"| `{path.relative_to(ROOT)}` | {summary(path)} |" for path in files]
    return "\n".join([f"### `{folder.relative_to(ROOT)}/`", "", "| file | what it holds |", "|---|---|", *rows])


def packages() -> str:
    """The packages of the source roots."""
    found = sorted(path for root in ("adapters", "rewards", "studio") for path in ROOT.glob(f"{root}/*/__init__.py"))
    rows = [f"| `{path.parent.relative_to(ROOT)}/` | {summary(path)} |" for path in found]
    return "\n".join(["| package | what it holds |", "|---|---|", *rows])


def filled(text: str) -> str:
    """The page with every block between its markers made anew."""
    for name, block in {"floors": floors(), "map": rooms(), "packages": packages()}.items():
        before, marker, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        assert marker, f"{PAGE.name} has no place for {name}"
        assert end, f"{PAGE.name} has no end of {name}"
        text = f"{before}{marker}\n{block}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
