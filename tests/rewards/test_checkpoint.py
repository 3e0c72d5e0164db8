"""Checkpoints of rewards: read from every form, refused where they are no weights or their values are none."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from streamt1_backbones.checkpoint import load_strictly, merge_lora, read_state
from streamt1_backbones.sources import fetching, find_file
from streamt1_plugins.errors import PluginError
from tests.api.test_weights import POINTER, shards

if TYPE_CHECKING:
    from pathlib import Path


def test_sharded_states(tmp_path: Path) -> None:
    assert len(read_state(shards(tmp_path))) == 3
    (tmp_path / "model-00001-of-00003.safetensors").unlink()
    with pytest.raises(PluginError, match="lacks 1 of its 3 shards: model-00001"):
        read_state(tmp_path)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", None])
def test_wrapped_states(wrapper: str | None, tmp_path: Path) -> None:
    state = {"w": torch.ones(2)}
    torch.save({wrapper: state} if wrapper else state, tmp_path / "w.pt")
    assert torch.equal(read_state(tmp_path / "w.pt")["w"], state["w"])


def test_states_with_other_entries(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "step": 3}, tmp_path / "w.pt")
    with pytest.raises(PluginError, match="tensors by name; 'step' is none"):
        read_state(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"), [(POINTER, "not downloaded"), ("<html>", "a web page"), ("", "it is empty")]
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_files_that_are_no_weights(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(PluginError, match=message):
        read_state(tmp_path / name)


def test_a_folder_whose_weights_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text(POINTER)
    with pytest.raises(PluginError, match=r"Reward 'r' cannot load .*not downloaded"), fetching("r", str(tmp_path)):
        pytest.fail("nothing may be loaded from it")
    with pytest.raises(PluginError, match=r"needs a folder with 'w\.pt', and .* is a file"):
        find_file("r", str(tmp_path / "model.safetensors"), "w.pt")


def test_errors_of_the_libraries_while_loading(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(PluginError, match="Reward 'r' cannot load"), fetching("r", str(tmp_path)):
        raise RuntimeError("PytorchStreamReader failed")
    with pytest.raises(PluginError, match=r"^of our own$"), fetching("r", str(tmp_path)):
        raise PluginError("of our own")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite(value: float) -> None:
    state = {"weight": torch.full((2, 3), value), "bias": torch.zeros(2)}
    with pytest.raises(PluginError, match="the head holds NaN or infinite numbers in weight"):
        load_strictly(torch.nn.Linear(3, 2), state, "the head")


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2, 3, dtype=torch.int8), "bias": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(PluginError, match=r"the head has torch.int8 numbers, not floating-point ones: weight"):
        load_strictly(torch.nn.Linear(3, 2), read_state(tmp_path / "w.safetensors"), "the head")


def test_halves_of_a_lora_that_do_not_fit() -> None:
    state = {
        "q.base_layer.weight": torch.ones(4, 3),
        "q.lora_A.default.weight": torch.ones(2, 3),
        "q.lora_B.default.weight": torch.ones(4, 8),
    }
    with pytest.raises(PluginError, match=r"The LoRA of 'q' does not fit its layer: lora_A \[2, 3\], lora_B \[4, 8\]"):
        merge_lora(state, 1.0)
    state["q.lora_B.default.weight"] = torch.ones(4, 2)
    assert torch.equal(merge_lora(state, 1.0, 2)["q.weight"], torch.full((4, 3), 3.0))
    with pytest.raises(PluginError, match="has rank 2, and its configuration has 64"):
        merge_lora(state, 1.0, 64)
