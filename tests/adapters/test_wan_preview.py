"""The preview decoder of causal Wan: the public layout, causal, flat in memory; a file that does not fit is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import streamt1_plugins as streamt1
from streamt1_plugins.search.previews import FALLBACK
from streamt1_plugins.testing import AdapterNumerics
from streamt1_plugins.testing.state import tensor_bytes
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.preview import DOWNLOAD, NAMES, file_of, state_elements
from streamt1_wan.tiny_decoder import TinyDecoder, decoded, from_weights
from tests.adapters.test_contract_wan import CausalWan
from tests.adapters.tiny import seeded, tiny_pipeline, tiny_vae


def random_weights() -> dict[str, torch.Tensor]:
    """The published file's names and shapes, those of an encoder among them."""
    torch.manual_seed(0)
    encoder = {"encoder.0.weight": torch.zeros(64, 3, 3, 3), "encoder.0.bias": torch.zeros(64)}
    return {**TinyDecoder().state_dict(), **encoder}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / NAMES[0]
    save_file(random_weights(), file)
    return file


# The decoder.


def test_the_layout_is_that_of_the_public_weights() -> None:
    """Tensors of `taew2_1.safetensors`, half of them the decoder's; fp16 in the file."""
    shapes = {name: tuple(tensor.shape) for name, tensor in TinyDecoder().state_dict().items()}
    assert len(shapes) == 64
    assert sum(tensor.numel() for tensor in TinyDecoder().state_dict().values()) * 2 < 20_000_000
    expected = {
        "decoder.1.weight": (256, 16, 3, 3),
        "decoder.3.conv.0.weight": (256, 512, 3, 3),
        "decoder.5.conv.4.bias": (256,),
        "decoder.7.conv.weight": (256, 256, 1, 1),
        "decoder.8.weight": (128, 256, 3, 3),
        "decoder.13.conv.weight": (256, 128, 1, 1),
        "decoder.14.weight": (64, 128, 3, 3),
        "decoder.19.conv.weight": (128, 64, 1, 1),
        "decoder.20.weight": (64, 64, 3, 3),
        "decoder.22.weight": (3, 64, 3, 3),
    }
    assert {name: shapes[name] for name in expected} == expected


@torch.no_grad()
def test_chunks_are_the_whole_and_the_state_does_not_grow() -> None:
    decoder, latents = from_weights(random_weights()), torch.randn(1, 16, 9, 4, 6, generator=seeded(0))
    whole, _ = decoder(latents, None)
    frames, state, sizes = [], None, set()
    for part in latents.split([3, 1, 5], dim=2):
        made, state = decoder(part, state)
        frames.append(made)
        sizes.add(tensor_bytes(state))
    assert torch.equal(torch.cat(frames), whole)
    assert whole.shape == (4 * 9 - 3, 3, 32, 48)
    assert sizes == {4 * state_elements(4, 6)}


@torch.no_grad()
def test_a_frame_depends_on_the_past_alone() -> None:
    decoder, latents = from_weights(random_weights()), torch.randn(1, 16, 4, 4, 4, generator=seeded(0))
    other = latents.clone()
    other[:, :, 3] += 1
    ours, theirs = (decoder(each, None)[0] for each in (latents, other))
    assert torch.equal(ours[:9], theirs[:9])
    assert not torch.equal(ours[9:], theirs[9:])
    earlier = latents.clone()
    earlier[:, :, 0] += 1
    assert not torch.equal(decoder(earlier, None)[0][9:], ours[9:]), "the past is not remembered"


@torch.no_grad()
def test_candidates_are_the_same_bits_in_any_company() -> None:
    decoder, latents = from_weights(random_weights()), torch.randn(3, 16, 2, 4, 4, generator=seeded(0))
    state = decoded(decoder, latents[:1], None)[0].state
    for row, each in enumerate(decoded(decoder, latents, state)):
        assert torch.equal(each.frames, decoded(decoder, latents[row : row + 1], state)[0].frames)


# The file.


def test_the_file_is_the_named_one_or_lies_in_the_models_folder(tmp_path: Path) -> None:
    assert file_of(None, str(tmp_path), NAMES) is None
    assert file_of(None, None, NAMES) is None
    (tmp_path / NAMES[1]).touch()
    assert file_of(None, str(tmp_path), NAMES) == tmp_path / NAMES[1]
    (tmp_path / NAMES[0]).touch()
    assert file_of(None, str(tmp_path), NAMES) == tmp_path / NAMES[0]
    assert file_of("other.pth", str(tmp_path), NAMES) == Path("other.pth")


def problem_with(adapter: CausalWanAdapter, pipe: Any = None) -> str | None:
    call = {"prompt": "a dog", "height": 32, "width": 32, "num_frames": 33, "generator": seeded(0)}
    session = adapter.open(pipe or tiny_pipeline(), call, streamt1.MemoryPlan())
    try:
        return session.preview_problem
    finally:
        session.close()


@pytest.mark.parametrize("kind", ["missing", "empty", "page", "layout", "code"])
def test_a_file_that_is_none_is_named_with_the_one_to_download(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "tae.pth"
    if kind == "empty":
        file.touch()
    if kind == "page":
        file.write_text("<!DOCTYPE html><html>404</html>")
    if kind == "layout":
        torch.save({"decoder.1.weight": torch.zeros(3)}, file)
    if kind == "code":
        torch.save({"decoder.1.weight": Path("x")}, file)
    problem = problem_with(CausalWanAdapter(preview=str(file)))
    assert problem is not None
    assert str(file) in problem
    assert DOWNLOAD in problem


def test_without_a_file_the_search_falls_back_with_one_note() -> None:
    problem = problem_with(CausalWanAdapter())
    assert problem is not None
    assert DOWNLOAD in problem
    adapter = {"name": "wan", "timesteps": [1000, 500]}
    recipe = {"extends": "stream-t1", "adapter": adapter, "rewards": {"decode": "preview", "short": {"basic": {}}}}
    pipe = streamt1.wrap(tiny_pipeline(), recipe)
    pipe("a dog", height=32, width=32, num_frames=9, max_sequence_length=16)
    assert [note for note in pipe.tree.notes if "preview" in note] == [FALLBACK.format(problem)]


def test_other_latents_are_refused(weights: Path) -> None:
    pipe = tiny_pipeline(vae=tiny_vae(z_dim=8), in_channels=8, out_channels=8)
    assert "the latents of Wan 2.1" in str(problem_with(CausalWanAdapter(preview=str(weights)), pipe))


def test_a_pickle_of_tensors_is_read(tmp_path: Path) -> None:
    torch.save(random_weights(), tmp_path / NAMES[1])
    assert problem_with(CausalWanAdapter(preview=str(tmp_path / NAMES[1]))) is None


class TestPreviewedCausalWan(CausalWan, AdapterNumerics):
    """What a session computes, with random weights in the public layout; the features of previews are tinyworld's."""

    _file: Path

    @pytest.fixture(autouse=True)
    def _named(self, weights: Path) -> None:
        type(self)._file = weights

    def make_adapter(self) -> CausalWanAdapter:
        return CausalWanAdapter(timesteps=(1000, 500), preview=str(self._file))
