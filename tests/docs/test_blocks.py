"""Every Python block of the documentation runs, imports included: those of a page in order, in an empty folder."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

import streamt1_plugins as streamt1
from tests.toy import ToyPipeline, ToySession

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}
TESTED = {
    "hooks.md": "test_docs.py",
    "rewards.md": "test_docs.py",
    "adapters.md": "../adapters/test_contract_docs.py",
    "studio.md": "../studio/test_serving.py",
    "tutorial.md": "test_tutorial.py",
    "README.md": "test_docs.py",
}
"""Pages whose blocks have a test of their own, or share one; README's runs here too."""

GIVEN: dict[str, Any] = {"python.md": {"pipe": ToyPipeline}, "takes.md": {"pipe": ToyPipeline}}
"""What a page takes for granted, by name."""

ONE_PROCESS = {"scaling.md": ("parallel.candidates=4", "parallel.candidates=1")}
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def blocks(name: str) -> list[str]:
    return BLOCK.findall(PAGES[name].read_text(encoding="utf-8"))


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of a module that the blocks of a page make together."""
    made = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", made)
    vars(made).update({key: make() for key, make in GIVEN.get(name, {}).items()})
    return vars(made)


class Stored:
    """Stands in for a class of diffusers: loads the toy."""

    @classmethod
    def from_pretrained(cls, model: str) -> Any:
        loaded = ToyPipeline()
        loaded.to = lambda device: loaded  # type: ignore[attr-defined]
        return loaded


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a prompt\nanother\na third\n")
    monkeypatch.setattr(
        streamt1, "load", lambda model=None, **given: streamt1.wrap(ToyPipeline(), **given), raising=False
    )
    monkeypatch.setattr(diffusers, "AnyFlowFARPipeline", Stored)
    monkeypatch.setattr(
        ToySession, "finish", lambda self, history: SimpleNamespace(frames=torch.cat(history.frames)[None])
    )


@pytest.mark.parametrize("name", [name for name in PAGES if blocks(name) and name not in TESTED] + ["README.md"])
def test_the_blocks_of_a_page_run_in_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "tree.md":  # the toy's only model is the test's; the page's was loaded by its name
        pipe = ToyPipeline()
        regenerate = streamt1.regenerate
        monkeypatch.setattr(streamt1, "regenerate", lambda *given: regenerate(*given, pipe), raising=False)
    if name == "data.md":
        export = partial(streamt1.export_runs, pipe=ToyPipeline())
        monkeypatch.setattr(streamt1, "export_runs", export, raising=False)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", Path("cache").absolute())
    names = module(name, monkeypatch)
    for block in blocks(name):
        exec(compile(block.replace(*ONE_PROCESS.get(name, ("", ""))), str(PAGES[name]), "exec"), names)


def test_pages_with_a_test_of_their_own_have_it() -> None:
    assert all((Path(__file__).parent / test).exists() for test in TESTED.values())


def test_the_page_of_python_shows_what_it_explains(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = module("python.md", monkeypatch)
    for block in blocks("python.md"):
        exec(block, names)
    printed = capsys.readouterr().out
    assert "4 chunks: 16 candidates" in printed
    assert "<Tree: 16 candidates in 4 chunks, winner " in printed
    assert "report.html" in printed
    assert {path.name for path in Path("runs").iterdir()} == {"fox", "animals", "mine"}
    text = PAGES["python.md"].read_text(encoding="utf-8")
    columns = {column for row in names["pipe"].tree.rows() for column in row}
    assert {column for column in columns if "/" not in column and f"`{column}`" not in text} == set()
    assert set(vars(next(names["pipe"].stream("a prompt")))) == {"index", "frames", "latents"}
