"""The recipes of real models, and the pages that list what they need: numbers come from scripts, never from memory."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

import streamt1_plugins as streamt1
from streamt1_plugins.config import load as recipe
from streamt1_plugins.plugins import build
from streamt1_plugins.plugins.discovery import discovery
from streamt1_wan.schedule import listed
from tests.adapters import layouts
from tests.adapters.tiny import tiny_pipeline
from tests.benchmarks import tables, vram

ROOT = Path(__file__).parents[2]
NAMES = ("longlive", "self-forcing", "causal-forcing", "causvid")
TINY = ["adapter.height=32", "adapter.width=32", "adapter.num_frames=33", "adapter.max_sequence_length=16"]


def header(name: str) -> str:
    return " ".join(recipe.header(recipe.names()[name]).split())


@pytest.mark.parametrize("name", NAMES)
def test_the_header_tells_weights_licence_and_memory(name: str) -> None:
    text = header(name)
    assert re.search(r"Weights: hub id \S+/\S+", text)
    assert "license" in text
    assert f"Needs: {vram.NEEDS[name].total:.0f} GiB of GPU memory" in text
    assert "computed, not measured" in text
    assert f"{vram.TEXT:.1f} for the text encoder" in text
    if name == "longlive":
        assert "CC BY-NC-SA 4.0" in text
        assert f"up to {vram.NEEDS['longlive, 5 sinks'].total:.0f} with all sinks" in text


@pytest.mark.parametrize("name", NAMES)
def test_the_conversion_command_exists_and_writes_what_the_recipe_loads(name: str) -> None:
    command = re.search(r"streamt1 (convert .*? --out \S+)", header(name))
    assert command
    words = shlex.split(command[1])
    assert words[-1] == recipe.load(name).model
    options: Any = get_command(layouts.command_line())
    known = {option for parameter in options.commands["convert"].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name: str) -> None:
    torch.set_num_threads(1)
    pipe = streamt1.wrap(tiny_pipeline(), name, overrides=TINY)
    pipe("a red circle", output_type="latent")
    assert [len(pipe.tree.chunk(index)) for index in range(3)] == [4, 4, 4]


@pytest.mark.parametrize("name", NAMES)
def test_the_context_is_the_one_the_model_was_trained_with(name: str) -> None:
    loaded = recipe.load(name)
    chunk_frames = loaded.adapter.options["chunk_frames"]
    frames = (loaded.sinks.sink_chunks + loaded.sinks.window_chunks) * chunk_frames
    assert frames == (12 if name == "longlive" else 21)
    assert build.instance(discovery().adapters["wan"], loaded.adapter.options, "adapter")


def test_causvid_takes_its_labels_as_they_are() -> None:
    schedule = listed((1000, 757, 522), 8.0, warp=False)
    assert schedule.timesteps.tolist() == [1000, 757, 522]
    torch.testing.assert_close(schedule.sigmas, schedule.timesteps / 1000, atol=5e-4, rtol=0)


def test_frame_wise_overrides_of_the_header_are_valid() -> None:
    words = re.findall(r"-o (\S+)", header("causal-forcing"))
    loaded = recipe.load("causal-forcing", words)
    assert loaded.sinks.sink_chunks + loaded.sinks.window_chunks == 21


def test_the_benchmark_page_has_the_numbers_of_the_evidence() -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(page) == page


def test_the_benchmark_page_says_what_the_evidence_says() -> None:
    """The ranges in the text, against the JSON."""
    rows = {row["name"]: row["time_over_n_plain"] for row in tables.report("causal_wan_gpu")["rows"]}
    page = " ".join(tables.PAGE.read_text(encoding="utf-8").split())
    for label, said in (
        ("one at a time", "one at a time {} to {}"),
        ("batched", "batched candidates take {} to {} of N plain"),
        ("shared prefix", "takes {} to {} of N plain runs where"),
    ):
        found = [rows[f"{label} N={n}"] for n in (2, 4, 8)]
        assert said.format(f"{min(found):.2f}", f"{max(found):.2f}") in page


def test_the_memory_table_of_the_wan_page_is_the_computed_one() -> None:
    assert vram.table() in (ROOT / "docs" / "adapters" / "wan.md").read_text(encoding="utf-8")
    assert round(vram.KV_CHUNK, 2) == 0.80


@pytest.mark.parametrize("test", re.findall(r"`(test_\w+)`", tables.PAGE.read_text(encoding="utf-8")))
def test_the_tests_the_benchmark_page_names_exist(test: str) -> None:
    assert any(f"def {test}(" in path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
