"""docs/adapters.md against the code: the table, the examples, the tutorial, the toolkit, other pipelines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusers
import numpy as np
import pytest

import streamt1_plugins as streamt1
import streamt1_seams
from streamt1_anyflow.adapter import AnyFlowAdapter
from streamt1_framepack.adapter import FramepackAdapter
from streamt1_helios.adapter import HeliosAdapter
from streamt1_plugins.api.adapter import MemoryPlan
from streamt1_plugins.plugins.discovery import discovery
from streamt1_skyreels.adapter import SkyReelsAdapter
from streamt1_wan.adapter import CausalWanAdapter
from tests.adapters import tiny, tiny_anyflow, tiny_framepack, tiny_helios, tiny_skyreels
from tests.third_party import rolling

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")

SMALL = {"prompt": "a red circle", "height": 32, "width": 32, "max_sequence_length": 16}
FAMILIES: dict[str, tuple[Any, Callable[..., Any], dict[str, Any]]] = {
    "WanPipeline": (CausalWanAdapter(), tiny.tiny_pipeline, {"num_frames": 21}),
    "AnyFlowFARPipeline": (AnyFlowAdapter(), tiny_anyflow.tiny_pipeline, {"num_frames": 25}),
    "HeliosPipeline": (HeliosAdapter(), tiny_helios.tiny_pipeline, {"num_frames": 66, "num_inference_steps": 2}),
    "SkyReelsV2DiffusionForcingPipeline": (
        SkyReelsAdapter(),
        tiny_skyreels.tiny_skyreels,
        {"num_frames": 41, "base_num_frames": 17, "overlap_history": 5},
    ),
    "HunyuanVideoFramepackPipeline": (
        FramepackAdapter(),
        tiny_framepack.tiny_framepack,
        {"image": tiny_skyreels.picture(), "sampling_type": "vanilla", "num_frames": 27, "latent_window_size": 3},
    ),
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
    routes = [each for each in ("discard", "ema", "append") if each in session.capabilities.routes]
    assert row[5] == (", ".join(routes) or "none")
    assert row[6] == str(session.capabilities.max_batch or "any")


def test_the_page_has_what_adapters_refuse_and_why() -> None:
    section = PAGE.partition("<!-- refusals -->")[2].partition("<!-- end -->")[0]
    listed = [line for line in section.splitlines() if line.startswith("| `")]
    assert listed == [
        f"| `{entry.name}` | {feature.replace('_', ' ')} | {reason} |"
        for entry in discovery().adapters.values()
        if entry.origin == "streamt1-plugins" and entry.capabilities
        for feature, reason in entry.capabilities.refusals.items()
    ]


def test_the_table_names_the_version_it_was_tested_with() -> None:
    """After an upgrade of diffusers: run tests/adapters, see what they report of upstream, then write the version."""
    assert {row[7] for row in rows()} == {f"diffusers {diffusers.__version__}"}


def example(name: str) -> str:
    """The code of one family's example."""
    section = re.split(r"^##", PAGE.partition(f"### {name}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert found, f"docs/adapters.md has no example for {name}"
    return found[1]


RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "wan": ("WanPipeline", {**SMALL, "num_frames": 21}),
    "tinyworld": ("WanPipeline", {"num_frames": 21}),
    "anyflow": ("AnyFlowFARPipeline", {**SMALL, "num_frames": 25, "num_inference_steps": 1}),
    "helios": ("HeliosPipeline", {**SMALL, "num_frames": 66, "num_inference_steps": 1}),
    "skyreels": (
        "SkyReelsV2DiffusionForcingPipeline",
        {**SMALL, "num_frames": 29, "base_num_frames": 17, "overlap_history": 5, "num_inference_steps": 1},
    ),
    "framepack": (
        "HunyuanVideoFramepackPipeline",
        {**SMALL, "num_frames": 18, "latent_window_size": 3, "num_inference_steps": 1},
    ),
}
"""The pipeline each example loads, and arguments that keep it small."""


@pytest.mark.parametrize("name", RUNS)
def test_the_examples_run(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With tiny pipelines instead of the named models, and small videos."""
    code, (pipeline, small) = example(name), RUNS[name]
    assert sum(bool(line) for line in code.splitlines()) <= 8
    monkeypatch.chdir(tmp_path)
    tiny_skyreels.picture().save("penguin.png")
    if f"{pipeline}.from_pretrained" in code:
        tiny_one = FAMILIES[pipeline][1]()
        monkeypatch.setattr(tiny_one, "to", lambda _: tiny_one)
        monkeypatch.setattr(getattr(diffusers, pipeline), "from_pretrained", lambda *_, **__: tiny_one)
    called = streamt1.StreamPipeline.__call__

    def small_call(self: Any, prompt: str, **call: Any) -> Any:
        return called(self, **{"prompt": prompt, **call, **small})

    monkeypatch.setattr(streamt1.StreamPipeline, "__call__", small_call)
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert np.asarray(scope["video"][0]).ndim == 3
    assert len(scope["pipe"].tree.winner) >= 2


def excerpts() -> list[tuple[str, str]]:
    return re.findall(r"<!-- from (\S+) -->\n```\w+\n(.*?)\n```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize(("path", "code"), excerpts(), ids=[path for path, _ in excerpts()])
def test_the_tutorial_shows_the_tested_example(path: str, code: str) -> None:
    assert code in (rolling.FOLDER / path).read_text(encoding="utf-8"), f"{path} has changed; copy it to the page"


def test_the_tutorial_is_one_page() -> None:
    tutorial = PAGE.partition("## Write an adapter")[2].partition("\n## ")[0]
    assert len(excerpts()) == 4
    assert len(tutorial.splitlines()) <= 180


def test_the_toolkit_is_listed() -> None:
    section = PAGE.partition("## The toolkit")[2].partition("\n## ")[0]
    listed = [
        name
        for line in section.splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    ]
    assert sorted(listed) == sorted(streamt1_seams.__all__)


def test_what_is_not_driven_still_looks_as_described() -> None:
    """If a name is gone or LongSANA has come, look at that pipeline again and rewrite this section of the page."""
    section = PAGE.partition("## Pipelines without an adapter")[2]
    for name in ("LTXI2VLongMultiPromptPipeline", "SanaVideoPipeline", "SanaImageToVideoPipeline", "SanaWMPipeline"):
        assert name in section
        assert hasattr(diffusers, name)
    assert not [name for name in dir(diffusers) if "longsana" in name.lower()]
