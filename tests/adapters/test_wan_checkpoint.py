"""Published checkpoint layouts become diffusers folders; what does not fit is refused before memory is taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from safetensors.torch import save_file
from typer.testing import CliRunner

import streamt1_plugins as streamt1
from streamt1_plugins.errors import FolderInUseError, InputError, OutputError, PluginError, UnsupportedPipelineError
from streamt1_wan import architecture
from streamt1_wan import convert as converting
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.checkpoint import read
from streamt1_wan.command import ConvertOptions
from streamt1_wan.command import _try as to_try
from streamt1_wan.convert import CONVERTING, Conversion, convert
from streamt1_wan.lora import LORA_FILE
from tests.adapters import layouts
from tests.adapters.tiny import TRANSFORMER, shaken, tiny_pipeline, tiny_transformer
from tests.api.test_weights import POINTER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.adapters.layouts import Tensors


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base pipeline whose transformer is another one than the checkpoints'."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(1)
    other = shaken(WanTransformer3DModel(**TRANSFORMER), 0.5)
    layouts.base_pipeline(other).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def trained() -> Any:
    return tiny_transformer()


LAYOUTS: dict[str, Callable[[Tensors], Any]] = {
    "self-forcing": lambda w: {
        "generator": layouts.noisy(layouts.prefixed(w)),
        "generator_ema": layouts.prefixed(w),
        "step": 3,
    },
    "self-forcing fsdp": lambda w: {"generator_ema": layouts.wrapped(w)},
    "causal-forcing raw": lambda w: {"generator": layouts.wrapped(w)},
    "causvid": lambda w: {"generator": layouts.prefixed(w)},
    "causvid training": lambda w: {"model": layouts.prefixed(w)},
    "longlive base": lambda w: {"generator": layouts.prefixed(w), "critic": layouts.noisy(layouts.prefixed(w))},
    "bare": lambda w: dict(w),
}


def converted(out: Path) -> WanPipeline:
    return CausalWanAdapter(dtype="float32").load(str(out))


def same_weights(ours: Any, theirs: Any) -> bool:
    mine, other = ours.state_dict(), theirs.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_arrives_bit_by_bit(layout: str, base: str, trained: Any, tmp_path: Path) -> None:
    torch.save(LAYOUTS[layout](layouts.original(trained)), tmp_path / "model.pt")
    job = Conversion(checkpoint=tmp_path / "model.pt", base=base, dtype="float32")
    done = convert(job, tmp_path / "out")
    pipe = converted(tmp_path / "out")
    assert same_weights(pipe.transformer, trained)
    assert same_weights(pipe.vae, WanPipeline.from_pretrained(base).vae)
    assert done.entry == {"bare": "the file itself", "causvid training": "model"}.get(
        layout, "generator_ema" if "self-forcing" in layout else "generator"
    )


@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_safetensors(names: str, base: str, trained: Any, tmp_path: Path) -> None:
    weights = layouts.original(trained) if names == "original" else trained.state_dict()
    save_file({name: x.contiguous() for name, x in weights.items()}, tmp_path / "model.safetensors")
    convert(Conversion(checkpoint=tmp_path, base=base, dtype="float32"), tmp_path / "out")
    assert same_weights(converted(tmp_path / "out").transformer, trained)


def test_the_weights_can_be_chosen(base: str, trained: Any, tmp_path: Path) -> None:
    weights = layouts.prefixed(layouts.original(trained))
    torch.save({"generator": weights, "generator_ema": layouts.noisy(weights)}, tmp_path / "both.pt")
    assert torch.equal(read(tmp_path / "both.pt", "raw").tensors["proj_out.bias"], trained.proj_out.bias)
    assert read(tmp_path / "both.pt").entry == "generator_ema"
    torch.save({"generator": weights}, tmp_path / "raw.pt")
    with pytest.raises(InputError, match="no 'ema' weights: expected one of generator_ema, found generator"):
        read(tmp_path / "raw.pt", "ema")
    torch.save(weights, tmp_path / "flat.pt")
    with pytest.raises(InputError, match=r"no 'ema' weights.*found tensors by name"):
        read(tmp_path / "flat.pt", "ema")


def test_the_old_file_format(trained: Any, tmp_path: Path) -> None:
    torch.save(layouts.original(trained), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert len(read(tmp_path / "old.pt").tensors) == len(trained.state_dict())


def test_half_precision_keeps_what_has_to_stay_wide(base: str, trained: Any, tmp_path: Path) -> None:
    torch.save(layouts.original(trained), tmp_path / "model.pt")
    convert(Conversion(checkpoint=tmp_path / "model.pt", base=base), tmp_path / "out")
    model = CausalWanAdapter().load(str(tmp_path / "out")).transformer
    assert model.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert model.blocks[0].scale_shift_table.dtype == torch.float32
    assert torch.equal(model.blocks[0].scale_shift_table, trained.blocks[0].scale_shift_table)


def sharded(weights: Tensors, folder: Path, suffix: str) -> Path:
    """Two shards and their index, as the libraries save a large model."""
    folder.mkdir()
    names = {name: f"model-0000{1 + index % 2}-of-00002{suffix}" for index, name in enumerate(weights)}
    for file in set(names.values()):
        part = {name: weights[name].contiguous() for name in weights if names[name] == file}
        save_file(part, folder / file) if suffix == ".safetensors" else torch.save(part, folder / file)
    (folder / f"model{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_shards(suffix: str, names: str, base: str, trained: Any, tmp_path: Path) -> None:
    weights = layouts.original(trained) if names == "original" else trained.state_dict()
    folder = sharded(weights, tmp_path / "shards", suffix)
    convert(Conversion(checkpoint=folder, base=base, dtype="float32"), tmp_path / "out")
    assert same_weights(converted(tmp_path / "out").transformer, trained)
    (folder / f"model-00002-of-00002{suffix}").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of its 2 shards: model-00002"):
        convert(Conversion(checkpoint=folder, base=base), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_converted_folder_is_a_checkpoint(base: str, tmp_path: Path) -> None:
    convert(Conversion(checkpoint=Path(base), base=base, dtype="float32"), tmp_path / "out")
    assert same_weights(converted(tmp_path / "out").transformer, WanPipeline.from_pretrained(base).transformer)


def test_the_bases_own_transformer_is_not_needed(base: str, trained: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "base"))
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_text(POINTER)
    torch.save(layouts.original(trained), tmp_path / "model.pt")
    convert(Conversion(checkpoint=tmp_path / "model.pt", base=str(folder), dtype="float32"), tmp_path / "out")
    assert same_weights(converted(tmp_path / "out").transformer, trained)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_text(POINTER)
    with pytest.raises(InputError, match="not downloaded"):
        convert(Conversion(checkpoint=tmp_path / "model.pt", base=str(folder)), tmp_path / "other")


# Values.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * float("nan"), "NaN or infinite numbers in blocks.0.self_attn.q.weight"),
        (lambda x: x / 0, "NaN or infinite numbers in blocks.0.self_attn.q.weight"),
        (lambda x: x.to(torch.int8), r"blocks.0.self_attn.q.weight \(int8\) should hold floating-point numbers"),
        (lambda x: x * 1e6, "in float16: NaN or infinite numbers in blocks.0.attn1.to_q.weight"),
    ],
    ids=["NaN", "infinite", "whole numbers", "too large for the dtype"],
)
def test_values_are_looked_at(change: Any, message: str, base: str, trained: Any, tmp_path: Path) -> None:
    name, weights = "blocks.0.self_attn.q.weight", layouts.original(trained)
    torch.save(weights | {name: change(weights[name])}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=message):
        convert(Conversion(checkpoint=tmp_path / "model.pt", base=base, dtype="float16"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# LoRA.


@pytest.fixture(scope="module")
def longlive(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("longlive")
    torch.save({"generator": layouts.prefixed(layouts.original(trained))}, folder / "longlive_base.pt")
    torch.save({"generator_lora": layouts.lora(trained), "critic_lora": {}, "step": 1}, folder / "lora.pt")
    return folder


def video(pipe: WanPipeline) -> torch.Tensor:
    torch.set_num_threads(1)
    embeds = torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(2))
    call = {"prompt_embeds": embeds, "height": 32, "width": 32, "num_frames": 21, "output_type": "latent"}
    from streamt1_plugins.api.adapter import MemoryPlan

    session = CausalWanAdapter(dtype="float32").open(pipe, call, MemoryPlan())
    history = session.root()
    for _ in range(session.num_chunks):
        latents = session.generate(history, session.draw(history, session.generator), [session.generator])
        history = session.commit(history, latents, session.decode(history, latents)[0], "discard")
    found: torch.Tensor = session.finish(history).frames
    session.close()
    return found


def longlive_pipe(folder: Path, base: str, out: Path, **options: Any) -> WanPipeline:
    files = {"checkpoint": folder / "longlive_base.pt", "lora": folder / "lora.pt"}
    convert(Conversion(**files, base=base, dtype="float32", **options), out)
    return converted(out)


def test_merged_and_unmerged_lora_agree(longlive: Path, base: str, trained: Any, tmp_path: Path) -> None:
    merged = longlive_pipe(longlive, base, tmp_path / "merged")
    beside = longlive_pipe(longlive, base, tmp_path / "beside", merged=False)
    assert not (tmp_path / "merged" / LORA_FILE).exists()
    assert (tmp_path / "beside" / LORA_FILE).exists()
    assert not any("lora" in name for name in merged.transformer.state_dict())
    assert any("lora" in name for name in beside.transformer.state_dict())
    ours = video(merged)
    torch.testing.assert_close(ours, video(beside), atol=1e-5, rtol=0)
    assert (ours - video(tiny_pipeline(transformer=trained, text=False))).abs().max() > 0.01, "the LoRA did nothing"


def test_merging_is_the_formula(longlive: Path, base: str, trained: Any, tmp_path: Path) -> None:
    merged = longlive_pipe(longlive, base, tmp_path / "out", lora_alpha=2.0).transformer
    tensors = layouts.lora(trained)
    for theirs, ours in (("self_attn.q", "attn1.to_q"), ("cross_attn.o", "attn2.to_out.0"), ("ffn.2", "ffn.net.2")):
        down, up = (tensors[f"base_model.model.blocks.1.{theirs}.lora_{side}.weight"] for side in "AB")
        expected = trained.blocks[1].get_submodule(ours).weight + 2.0 / 4 * up @ down
        torch.testing.assert_close(merged.blocks[1].get_submodule(ours).weight, expected, atol=1e-6, rtol=0)


# Refusals.


def test_another_architecture_is_refused_before_allocating(trained: Any, base: str, tmp_path: Path) -> None:
    big = tiny_transformer(num_layers=3, ffn_dim=64)
    torch.save({"generator": layouts.prefixed(layouts.original(big))}, tmp_path / "big.pt")
    with pytest.raises(InputError, match=r"layers 3 \(base 2\), feed-forward width 64 \(base 32\)"):
        convert(Conversion(checkpoint=tmp_path / "big.pt", base=base), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_model_is_refused(trained: Any, base: str, tmp_path: Path) -> None:
    torch.save(layouts.original(tiny_transformer(in_channels=36)), tmp_path / "i2v.pt")
    with pytest.raises(InputError, match=r"input channels 36 \(base 16\)"):
        convert(Conversion(checkpoint=tmp_path / "i2v.pt", base=base), tmp_path / "out")


def test_the_empty_model_has_no_weights() -> None:
    config = tiny_transformer().config
    assert all(parameter.is_meta for parameter in architecture.empty_transformer(config).parameters())


def test_names_that_do_not_match_are_listed_with_the_nearest(trained: Any, base: str, tmp_path: Path) -> None:
    weights = layouts.original(trained)
    weights["blocks.0.self_attn.qq.weight"] = weights.pop("blocks.0.self_attn.q.weight")
    del weights["head.modulation"]
    torch.save(weights, tmp_path / "odd.pt")
    expected = (
        r"2 missing: blocks\.0\.attn1\.to_q\.weight, scale_shift_table; "
        r"1 unexpected: blocks\.0\.self_attn\.qq\.weight \(nearest: blocks\.0\.attn1\.to_q\.weight\)"
    )
    with pytest.raises(InputError, match=expected):
        convert(Conversion(checkpoint=tmp_path / "odd.pt", base=base), tmp_path / "out")


def test_one_wrong_shape_is_named(trained: Any, base: str, tmp_path: Path) -> None:
    weights = layouts.original(trained) | {"head.head.bias": torch.zeros(3)}
    torch.save(weights, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=r"1 weights have other shapes: proj_out.bias \[3\], expected \[64\]"):
        convert(Conversion(checkpoint=tmp_path / "odd.pt", base=base), tmp_path / "out")


class Harmful:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/nonexistent/never"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"generator": {}, "config": Harmful()}, "more than tensors"),
        ([1, 2], "holds a list"),
        ({"optimizer": {}}, "holds no weights: expected one of generator_ema, generator, model, found optimizer"),
        ({"model.a.weight": torch.zeros(1), "a.weight": torch.zeros(1)}, "two weights are called 'a.weight'"),
    ],
    ids=["code", "a list", "no weights", "a name twice"],
)
def test_unusable_files(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "file.pt")


def test_files_that_are_not_there_or_not_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "missing.pt")
    torch.save(layouts.lora(tiny_transformer()), tmp_path / "lora.pt")
    with pytest.raises(InputError, match="is a LoRA: pass it as --lora"):
        read(tmp_path / "lora.pt")
    (tmp_path / "lora.pt").unlink()
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "text.safetensors")
    (tmp_path / "more.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"one checkpoint, found more\.pt, text\.safetensors"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {}, "not a LoRA"),
        (lambda t: {**t, "blocks.0.x.alpha": torch.ones(1)}, "there is an alpha and no LoRA for blocks.0.x"),
        (lambda t: dict(list(t.items())[1:]), "half of the LoRA is missing"),
        (
            lambda t: {k.replace("self_attn.q.", "self_attn.qq."): v for k, v in t.items()},
            "is no linear layer .nearest",
        ),
        (lambda t: {k: v[:, :-1] if "lora_A" in k else v for k, v in t.items()}, "the layer is"),
        (
            lambda t: {k: torch.cat([v, v]) if "0.self_attn.q.lora_A" in k else v for k, v in t.items()},
            r"halves of the LoRA of 'blocks.0.self_attn.q' do not fit: lora_A \[8, 24\] and lora_B \[24, 4\]",
        ),
    ],
    ids=["empty", "alpha", "half", "unknown layer", "shape", "ranks"],
)
def test_unusable_loras(
    change: Callable[[Tensors], Tensors], message: str, longlive: Path, base: str, trained: Any, tmp_path: Path
) -> None:
    torch.save(change(layouts.lora(trained)), tmp_path / "lora.pt")
    job = Conversion(checkpoint=longlive / "longlive_base.pt", base=base, lora=tmp_path / "lora.pt")
    with pytest.raises(InputError, match=message):
        convert(job, tmp_path / "out")


def test_unusable_bases(longlive: Path, base: str, tmp_path: Path) -> None:
    job = {"checkpoint": longlive / "longlive_base.pt"}
    with pytest.raises(PluginError, match="Reading the base pipeline"):
        convert(Conversion(**job, base=str(tmp_path / "nowhere")), tmp_path / "out")
    index = json.loads((Path(base) / "model_index.json").read_text())
    for change, message in (
        ({"_class_name": "X"}, "is a X"),
        ({"transformer_2": ["diffusers", "Y"]}, "two transformers"),
    ):
        folder = tmp_path / message.split()[0]
        (folder / "transformer").mkdir(parents=True)
        (folder / "transformer" / "config.json").write_bytes((Path(base) / "transformer" / "config.json").read_bytes())
        (folder / "model_index.json").write_text(json.dumps(index | change))
        with pytest.raises(UnsupportedPipelineError, match=message):
            convert(Conversion(**job, base=str(folder)), tmp_path / "out")


def test_a_folder_in_use_is_left_alone(longlive: Path, base: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a new or empty folder"):
        convert(Conversion(checkpoint=longlive / "longlive_base.pt", base=base), longlive)


def test_two_conversions_at_once_are_kept_apart(
    longlive: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, out = Conversion(checkpoint=longlive / "longlive_base.pt", base=base), tmp_path / "out"
    filled = converting.filled

    def loading(*args: Any) -> Any:
        """What another process may do while the first one loads."""
        with pytest.raises(FolderInUseError, match=f"Another conversion is writing to the folder {out}"):
            convert(job, out)
        return filled(*args)

    monkeypatch.setattr(converting, "filled", loading)
    convert(job, out)
    assert converted(out).transformer.config.num_layers == 2
    assert not (out / CONVERTING).exists()


def test_a_conversion_that_fails_leaves_no_folder(
    longlive: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullError(Exception):
        pass

    def full(*_: Any) -> Any:
        raise FullError

    monkeypatch.setattr(converting, "filled", full)
    with pytest.raises(FullError):
        convert(Conversion(checkpoint=longlive / "longlive_base.pt", base=base), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# The command.


def test_the_command_comes_through_the_hook(longlive: Path, base: str, tmp_path: Path) -> None:
    app = layouts.command_line()
    words = [longlive / "longlive_base.pt", "--base", base, "--out", tmp_path / "out", "--lora", longlive / "lora.pt"]
    done = CliRunner().invoke(app, ["convert", *map(str, words), "--weights", "raw", "--dtype", "float32"])
    assert done.exit_code == 0, done.output
    assert "generator of" in done.output
    assert "rank 4, scale 1, merged" in done.output
    assert f'try      streamt1 generate "a cat on a beach" --recipe longlive --model {tmp_path}' in done.output
    assert converted(tmp_path / "out").transformer.config.num_layers == 2
    again = CliRunner().invoke(app, ["convert", *map(str, words)])
    assert again.exit_code == 2
    assert "not a new or empty folder" in again.output


@pytest.mark.parametrize(
    ("checkpoint", "out", "command"),
    [
        ("checkpoints/self_forcing_dmd.pt", "models/self-forcing", "--recipe self-forcing"),
        ("elsewhere/self_forcing_dmd.pt", "mine", "--recipe self-forcing --model mine"),
        ("autoregressive_checkpoint/model.pt", "mine", "--recipe causvid --model mine"),
        ("mine/model.pt", "models/causvid", "--recipe causvid"),
        (
            "mine/model.pt",
            "mine",
            "--recipe RECIPE --model mine  (RECIPE: causal-forcing, causvid, longlive, self",
        ),
    ],
)
def test_the_command_to_try_has_the_recipe_of_the_weights(checkpoint: str, out: str, command: str) -> None:
    options = ConvertOptions(Path(checkpoint), base="any", out=Path(out))
    assert to_try(options).startswith(f'streamt1 generate "a cat on a beach" {command}')


@pytest.mark.parametrize("lora", [None, "nofile.pt"])
def test_a_file_that_is_not_there_comes_before_the_base(lora: str | None, longlive: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "nofile" if lora is None else longlive / "longlive_base.pt"
    job = Conversion(checkpoint=checkpoint, base="no/base", lora=None if lora is None else tmp_path / lora)
    with pytest.raises(InputError, match=r"nofile.* cannot be read"):
        convert(job, tmp_path / "out")


def test_a_model_that_is_not_there_yet_names_the_command_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no folder 'models/longlive' in .*streamt1 convert .* --out models/longlive"):
        streamt1.load("models/longlive", "longlive", device="cpu")
