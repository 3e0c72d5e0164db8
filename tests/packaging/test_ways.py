"""Ways of the code that no type checker sees, counted: who writes the forward counter, and how far `run` travels."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "streamt1_plugins").rglob("*.py"))
ADAPTERS = sorted((ROOT / "adapters").rglob("*.py"))
SEARCH_PATH = ("search", "evaluation", "policies")
MOST_WITH_RUN = 47
MOST_ARGUMENTS = 5


def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of all parameters but self and cls; ``*args`` and ``**kwargs`` count as one each."""
    given = function.args
    every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [each.arg for each in every if each and each.arg not in ("self", "cls")]


def place(path: Path, node: ast.stmt) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno} {getattr(node, 'name', '')}".rstrip()


def written(node: ast.AST) -> list[ast.AST]:
    """Everything that a statement assigns to."""
    if isinstance(node, ast.Assign):
        return [part for target in node.targets for part in ast.walk(target)]
    return list(ast.walk(node.target)) if isinstance(node, ast.AugAssign | ast.AnnAssign) else []


def is_counter_of_a_session(target: ast.AST) -> bool:
    """Whether the target is ``session.forwards`` or ``<anything>.session.forwards``."""
    if not (isinstance(target, ast.Attribute) and target.attr == "forwards"):
        return False
    return ast.unparse(target.value).rpartition(".")[2].lstrip("_") == "session"


def writers(paths: list[Path]) -> list[str]:
    return [
        place(path, node)
        for path in paths
        for node in nodes(path)
        if isinstance(node, ast.stmt) and any(map(is_counter_of_a_session, written(node)))
    ]


def test_only_a_session_counts_its_forwards() -> None:
    """`Session.forwards` is read-only: a run counts by differences."""
    assert writers([*CORE, *ADAPTERS]) == []


def test_a_write_to_the_counter_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "module.py"
    path.write_text(
        "run.session.forwards = 0\nsession.forwards += 1\nself._session.forwards: int = 2\na, session.forwards = 1, 2\n"
        "run.cost.forwards = run.session.forwards\nself.forwards = 0\n"
    )
    assert writers([path]) == [f"module.py:{line}" for line in (1, 2, 3, 4)]


def test_few_functions_take_the_whole_run() -> None:
    """A function takes what it reads. Hooks take `run`, because a plugin decides what it reads."""
    own = [(path, each) for path in CORE for each in functions(path) if not each.name.startswith("streamt1_")]
    taking = [place(path, each) for path, each in own if "run" in arguments(each)]
    assert len(taking) <= MOST_WITH_RUN, f"{len(taking)} functions take `run`:\n" + "\n".join(taking)


def test_functions_on_the_search_path_take_few_arguments() -> None:
    paths = [path for path in CORE if path.relative_to(ROOT).parts[1] in SEARCH_PATH]
    long = [place(path, each) for path in paths for each in functions(path) if len(arguments(each)) > MOST_ARGUMENTS]
    assert long == []
