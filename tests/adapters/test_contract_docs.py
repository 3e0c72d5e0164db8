"""docs/adapters.md against the code: the table, the examples, the tutorial, and what it says of other pipelines."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import diffusers
import pytest

import streamt1_plugins as streamt1
from streamt1_anyflow.adapter import AnyFlowAdapter
from streamt1_helios.adapter import HeliosAdapter
from streamt1_plugins.adapter import MemoryPlan
from streamt1_wan.adapter import CausalWanAdapter
from tests.adapters import tiny, tiny_anyflow, tiny_helios

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tests" / "plugins" / "streamt1_example_adapter"
PAGE = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")

SMALL = {"prompt": "a red circle", "height": 32, "width": 32, "max_sequence_length": 16}
FAMILIES: dict[str, tuple[Any, Callable[..., Any], dict[str, Any]]] = {
    "WanPipeline": (CausalWanAdapter(), tiny.tiny_pipeline, {"num_frames": 21}),
    "AnyFlowFARPipeline": (AnyFlowAdapter(), tiny_anyflow.tiny_pipeline, {"num_frames": 25}),
    "HeliosPipeline": (HeliosAdapter(), tiny_helios.tiny_pipeline, {"num_frames": 66, "num_inference_steps": 2}),
    "HeliosPyramidPipeline": (HeliosAdapter(), tiny_helios.tiny_pyramid, {"num_frames": 66}),
}


def rows() -> list[list[str]]:
    """The cells of the table of supported pipelines."""
    table = PAGE.partition("## Supported pipelines")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("pipeline", FAMILIES)
def test_the_table_says_what_the_adapters_declare(pipeline: str) -> None:
    adapter, make, changes = FAMILIES[pipeline]
    (row,) = [row for row in rows() if f"`{pipeline}`" in row[1]]
    session = adapter.open(make(), {**SMALL, **changes}, MemoryPlan())
    session.close()
    assert row[5] == (
        ", ".join(each for each in ("discard", "ema", "append") if each in session.capabilities.routes) or "none"
    )
    assert row[6] == str(session.capabilities.max_batch or "any")


def test_the_table_names_the_version_it_was_tested_with() -> None:
    """After an upgrade of diffusers: run all of tests/adapters, look at what they say of upstream, then write it here."""
    assert {row[7] for row in rows()} == {f"diffusers {diffusers.__version__}"}


def example(name: str) -> str:
    """The code of one family's example."""
    found = re.search(rf"^### {name}\n+```python\n(.*?)```", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert found, f"docs/adapters.md has no example for {name}"
    return found[1]


@pytest.mark.parametrize("name", ["wan", "tinyworld", "anyflow", "helios"])
def test_the_examples_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiny pipelines instead of the named models, and small videos."""
    code = example(name)
    assert len(code.splitlines()) <= 6
    sizes = {} if name == "tinyworld" else {**SMALL, "num_inference_steps": 1}
    for pipeline, (_, make, changes) in FAMILIES.items():
        loaded = make()
        monkeypatch.setattr(loaded, "to", lambda device, loaded=loaded: loaded)
        monkeypatch.setattr(getattr(diffusers, pipeline), "from_pretrained", lambda *_, loaded=loaded, **__: loaded)
        if f"import {pipeline}" in code:
            sizes |= {key: value for key, value in changes.items() if key in {"num_frames"}}
    sizes.pop("num_inference_steps" if name == "wan" else "", None)
    called = streamt1.StreamPipeline.__call__
    if name != "tinyworld":
        monkeypatch.setattr(
            streamt1.StreamPipeline, "__call__", lambda self, _, **call: called(self, **{**call, **sizes})
        )
    else:
        monkeypatch.setattr(streamt1.StreamPipeline, "__call__", lambda self, text: called(self, text, num_frames=21))
    scope = SimpleNamespace()
    exec(code, vars(scope))
    assert scope.video.ndim == 4
    assert len(scope.pipe.tree.winner) >= 2


def excerpts() -> list[tuple[str, str]]:
    return re.findall(r"<!-- from (\S+) -->\n```\w+\n(.*?)\n```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize(("path", "code"), excerpts(), ids=[path for path, _ in excerpts()])
def test_the_tutorial_shows_the_tested_example(path: str, code: str) -> None:
    assert code in (EXAMPLE / path).read_text(encoding="utf-8"), f"{path} has changed; copy the new code to the page"


def test_the_tutorial_is_one_page() -> None:
    tutorial = PAGE.partition("## Write an adapter")[2].partition("\n## ")[0]
    assert len(excerpts()) == 5
    assert len(tutorial.splitlines()) <= 180


def test_what_is_not_driven_still_looks_as_described() -> None:
    """If a name is gone or LongSANA has come, look at that pipeline again and rewrite "Looked at, not driven"."""
    section = PAGE.partition("## Looked at, not driven")[2]
    for name in ("LTXI2VLongMultiPromptPipeline", "SanaVideoPipeline", "SanaImageToVideoPipeline", "SanaWMPipeline"):
        assert name in section
        assert hasattr(diffusers, name)
    assert not [name for name in dir(diffusers) if "longsana" in name.lower()]
