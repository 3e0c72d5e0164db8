"""LoRA files in every layout become the weights of the formula, with the scale from where each layout has it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import WanPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from streamt1_plugins.errors import InputError
from streamt1_wan.adapter import CausalWanAdapter
from streamt1_wan.convert import Conversion, convert
from streamt1_wan.keys import diffusers_key
from streamt1_wan.lora import CONFIG_FILE, LORA_FILE, check_lora, read_lora
from tests.adapters import layouts
from tests.adapters.tiny import seeded, tiny_transformer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.adapters.layouts import Tensors

RANK = 4
MODULES = [
    "blocks.0.self_attn.q",
    "blocks.1.self_attn.o",
    "blocks.1.cross_attn.k",
    "blocks.0.ffn.0",
    "blocks.1.ffn.2",
    "head.head",
    "text_embedding.2",
    "time_projection.1",
]
"""Original names; every kind of layer is there."""


@pytest.fixture(scope="module")
def trained() -> Any:
    return tiny_transformer()


@pytest.fixture(scope="module")
def halves(trained: Any) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(down, up) by original name."""
    generator, found = seeded(3), {}
    for module in MODULES:
        rows, columns = trained.get_submodule(diffusers_key(module)).weight.shape
        down, up = (torch.randn(shape, generator=generator) for shape in ((RANK, columns), (rows, RANK)))
        found[module] = (down * 0.2, up * 0.2)
    return found


def named(halves: Any, name: Callable[[str], str], down: str = "lora_A", up: str = "lora_B") -> Tensors:
    pairs: Iterator[tuple[str, torch.Tensor]] = (
        (f"{name(module)}.{side}.weight", half)
        for module, both in halves.items()
        for side, half in zip((down, up), both, strict=True)
    )
    return dict(pairs)


def alphas(halves: Any, name: Callable[[str], str], alpha: float) -> Tensors:
    return {f"{name(module)}.alpha": torch.tensor(alpha) for module in halves}


def applied(trained: Any, file: Path, alpha: float | None = None) -> Tensors:
    """The weights with the LoRA of a file."""
    lora = read_lora(file, alpha)
    check_lora(lora, trained, "it does not fit")
    return {name: lora.added(name, weight) for name, weight in trained.state_dict().items()}


def expected(trained: Any, halves: Any, scale: float = 1.0) -> Tensors:
    """The reference: every layer's weight plus scale * up @ down."""
    found = {name: weight.clone() for name, weight in trained.state_dict().items()}
    for module, (down, up) in halves.items():
        found[f"{diffusers_key(module)}.weight"] += scale * (up @ down)
    return found


def check(found: Tensors, wanted: Tensors) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name} {text}")


def underscored(module: str) -> str:
    return module.replace(".", "_")


NAMES: dict[str, tuple[Callable[[str], str], str, str]] = {
    "peft": (lambda m: f"base_model.model.{m}", "lora_A", "lora_B"),
    "peft, adapter named": (lambda m: f"base_model.model.{m}", "lora_A.default", "lora_B.default"),
    "peft, FSDP": (lambda m: f"base_model.model.model._fsdp_wrapped_module.{m}", "lora_A", "lora_B"),
    "diffusers": (lambda m: f"transformer.{diffusers_key(m)}", "lora_A", "lora_B"),
    "diffusers, without prefix": (diffusers_key, "lora_A", "lora_B"),
    "diffusers, older": (lambda m: f"transformer.{diffusers_key(m)}", "lora.down", "lora.up"),
    "original": (lambda m: f"diffusion_model.{m}", "lora_A", "lora_B"),
    "original, down and up": (lambda m: f"diffusion_model.{m}", "lora_down", "lora_up"),
    "original, nested": (lambda m: f"model.diffusion_model.{m}", "lora_down", "lora_up"),
    "kohya": (lambda m: f"lora_unet_{underscored(m)}", "lora_down", "lora_up"),
    "kohya, diffusers names": (lambda m: f"lora_transformer_{underscored(diffusers_key(m))}", "lora_down", "lora_up"),
}


@pytest.mark.parametrize("layout", NAMES)
@pytest.mark.parametrize("alpha", [None, 8.0])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_every_layout(layout: str, alpha: float | None, suffix: str, trained: Any, halves: Any, tmp_path: Path) -> None:
    name, down, up = NAMES[layout]
    tensors = named(halves, name, down, up) | ({} if alpha is None else alphas(halves, name, alpha))
    file = tmp_path / f"lora{suffix}"
    save_file(tensors, file) if suffix == ".safetensors" else torch.save(tensors, file)
    check(applied(trained, file), expected(trained, halves, 1.0 if alpha is None else alpha / RANK))


@pytest.mark.parametrize("only", MODULES)
def test_a_layer_alone_is_recognised(only: str, trained: Any, halves: Any, tmp_path: Path) -> None:
    """Which layout a file has may not depend on layers that are not in it."""
    for name in (lambda m: f"transformer.{diffusers_key(m)}", lambda m: f"diffusion_model.{m}"):
        save_file(named({only: halves[only]}, name), tmp_path / "lora.safetensors")
        check(applied(trained, tmp_path / "lora.safetensors"), expected(trained, {only: halves[only]}))


# Where the scale is.


def peft_folder(folder: Path, tensors: Tensors, **config: Any) -> Path:
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 8, **config}))
    return folder


def peft_names(module: str) -> str:
    return f"base_model.model.{module}"


@pytest.mark.parametrize("place", ["folder", "file"])
def test_alpha_beside_the_file(place: str, trained: Any, halves: Any, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, named(halves, peft_names))
    path = folder if place == "folder" else folder / "adapter_model.safetensors"
    check(applied(trained, path), expected(trained, halves, 2.0))


def test_rank_stabilised_alpha(trained: Any, halves: Any, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, named(halves, peft_names), use_rslora=True)
    check(applied(trained, folder), expected(trained, halves, 8 / math.sqrt(RANK)))


def test_alpha_by_module(trained: Any, halves: Any, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, named(halves, peft_names), alpha_pattern={"self_attn.q": 2, r"blocks.1.ffn.\d": 12})
    wanted = expected(trained, halves, 2.0)
    for module, scale in (("blocks.0.self_attn.q", 0.5), ("blocks.1.ffn.2", 3.0)):
        down, up = halves[module]
        name = f"{diffusers_key(module)}.weight"
        wanted[name] = trained.state_dict()[name] + scale * up @ down
    check(applied(trained, folder), wanted)


def test_ranks_by_module(trained: Any, halves: Any, tmp_path: Path) -> None:
    """Alpha 8 over the rank of each layer."""
    wide = "blocks.0.self_attn.q"
    down, up = (torch.cat([half, half], dim=axis) for axis, half in enumerate(halves[wide]))
    folder = peft_folder(tmp_path, named(halves | {wide: (down, up)}, peft_names), rank_pattern={wide: 2 * RANK})
    check(applied(trained, folder), expected(trained, halves, 2.0))


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_alpha_in_the_header(prefix: str, trained: Any, halves: Any, tmp_path: Path) -> None:
    header = {f"{prefix}r": RANK, f"{prefix}lora_alpha": 8, f"{prefix}target_modules": ["to_q"]}
    tensors = named(halves, NAMES["diffusers"][0])
    save_file(tensors, tmp_path / LORA_FILE, metadata={"lora_adapter_metadata": json.dumps(header)})
    check(applied(trained, tmp_path), expected(trained, halves, 2.0))


def test_the_header_that_diffusers_writes(trained: Any, tmp_path: Path) -> None:
    """A LoRA trained with peft on the diffusers class, saved by diffusers: the reference is peft's own merge."""
    model = tiny_transformer()
    config = LoraConfig(r=RANK, lora_alpha=12, target_modules=["to_q", "ffn.net.2"], init_lora_weights=False)
    torch.manual_seed(4)
    model.add_adapter(config)
    metadata = {**config.to_dict(), "target_modules": sorted(config.target_modules or ())}
    WanPipeline.save_lora_weights(
        tmp_path, get_peft_model_state_dict(model), transformer_lora_adapter_metadata=metadata
    )
    model.fuse_lora()
    model.unload_lora()
    check(applied(trained, tmp_path / LORA_FILE), model.state_dict())


def test_the_callers_alpha_is_the_one(trained: Any, halves: Any, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, named(halves, peft_names))
    check(applied(trained, folder, alpha=1.0), expected(trained, halves, 0.25))


def test_a_tensor_is_nearer_than_a_configuration(trained: Any, halves: Any, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, named(halves, peft_names) | alphas(halves, peft_names, 1.0))
    check(applied(trained, folder), expected(trained, halves, 0.25))


# Whole differences.


def original(name: str) -> str:
    return f"diffusion_model.{name}"


def test_differences_are_added(trained: Any, halves: Any, tmp_path: Path) -> None:
    """`diff`, `diff_b` and `diff_m` of linear layers, norms and modulation, beside halves with an alpha."""
    changes = {
        "blocks.0.self_attn.q.diff_b": "blocks.0.attn1.to_q.bias",
        "blocks.1.ffn.0.diff_b": "blocks.1.ffn.net.0.proj.bias",
        "blocks.0.self_attn.norm_k.diff": "blocks.0.attn1.norm_k.weight",
        "blocks.1.norm3.diff": "blocks.1.norm2.weight",
        "blocks.1.norm3.diff_b": "blocks.1.norm2.bias",
        "blocks.0.diff_m": "blocks.0.scale_shift_table",
        "head.diff_m": "scale_shift_table",
        "patch_embedding.diff": "patch_embedding.weight",
        "head.head.diff_b": "proj_out.bias",
    }
    wanted, tensors = expected(trained, halves, 2.0), {}
    for index, (theirs, ours) in enumerate(changes.items()):
        tensors[original(theirs)] = torch.randn(wanted[ours].shape, generator=seeded(index))
        wanted[ours] = wanted[ours] + tensors[original(theirs)]
    halves_of_file = named(halves, original, "lora_down", "lora_up")
    save_file(halves_of_file | alphas(halves, original, 8.0) | tensors, tmp_path / "lora.safetensors")
    check(applied(trained, tmp_path / "lora.safetensors"), wanted)


def test_the_bias_of_a_half_is_scaled_like_it(trained: Any, halves: Any, tmp_path: Path) -> None:
    bias = torch.randn(24, generator=seeded(1))
    tensors = named(halves, peft_names) | {f"{peft_names('blocks.0.self_attn.q')}.lora_B.bias": bias}
    wanted = expected(trained, halves, 2.0)
    wanted["blocks.0.attn1.to_q.bias"] += 2.0 * bias
    check(applied(trained, peft_folder(tmp_path, tensors)), wanted)


def test_a_convolution(trained: Any, tmp_path: Path) -> None:
    down, up = torch.randn(RANK, 16, 1, 2, 2), torch.randn(24, RANK, 1, 1, 1)
    tensors = {"diffusion_model.patch_embedding.lora_down.weight": down, original("patch_embedding.lora_up.weight"): up}
    save_file(tensors, tmp_path / "lora.safetensors")
    found = applied(trained, tmp_path / "lora.safetensors")["patch_embedding.weight"]
    update = torch.einsum("or,rcfhw->ocfhw", up.flatten(1), down)
    torch.testing.assert_close(found, trained.patch_embedding.weight.detach() + update, atol=1e-5, rtol=0)


# Through the conversion.


@pytest.fixture(scope="module")
def base(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    layouts.base_pipeline(trained).save_pretrained(folder)
    return folder


def loaded(base: Path, out: Path, **options: Any) -> Any:
    convert(Conversion(checkpoint=base, base=str(base), dtype="float32", **options), out)
    return CausalWanAdapter(dtype="float32").load(str(out)).transformer


def test_merged_and_beside_are_the_same_function(trained: Any, halves: Any, base: Path, tmp_path: Path) -> None:
    """With several ranks and scales and a difference, which is always merged."""
    wide = "blocks.1.cross_attn.k"
    down, up = (torch.cat([half, half], dim=axis) for axis, half in enumerate(halves[wide]))
    tensors = named(halves | {wide: (down, up)}, original) | {original("blocks.0.ffn.0.diff_b"): torch.ones(32)}
    tensors |= {original(f"{module}.alpha"): torch.tensor(2.0 + index) for index, module in enumerate(MODULES)}
    save_file(tensors, tmp_path / "lora.safetensors")
    wanted = expected(trained, {})
    for index, module in enumerate(MODULES):
        rank = 2 * RANK if module == wide else RANK
        a, b = (down, up) if module == wide else halves[module]
        wanted[f"{diffusers_key(module)}.weight"] += (2.0 + index) / rank * b @ a
    wanted["blocks.0.ffn.net.0.proj.bias"] += 1.0
    merged = loaded(base, tmp_path / "merged", lora=tmp_path / "lora.safetensors")
    beside = loaded(base, tmp_path / "beside", lora=tmp_path / "lora.safetensors", merged=False)
    check(merged.state_dict(), wanted)
    assert any("lora" in name for name in beside.state_dict())
    beside.fuse_lora()
    beside.unload_lora()
    check(beside.state_dict(), wanted)


# Refusals.

Q = "base_model.model.blocks.0.self_attn.q"


def changed(tensors: Tensors, side: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Tensors:
    return tensors | {f"{Q}.{side}.weight": change(tensors[f"{Q}.{side}.weight"])}


REFUSED: list[tuple[Callable[[Tensors], Tensors], str]] = [
    (lambda t: changed(t, "lora_A", lambda x: x * math.nan), "NaN or infinite numbers in blocks.0.self_attn.q"),
    (lambda t: changed(t, "lora_B", lambda x: x / 0), "NaN or infinite numbers in blocks.0.self_attn.q"),
    (lambda t: changed(t, "lora_B", lambda x: x.to(torch.int8)), r"blocks.0.self_attn.q \(int8\) should hold floating"),
    (lambda t: changed(t, "lora_A", lambda x: x[:2]), r"lora_A \[2, 24\] and lora_B \[24, 4\]"),
    (lambda t: changed(t, "lora_A", lambda x: x[0]), r"lora_A \[24\] and lora_B"),
    (lambda t: {k: v for k, v in t.items() if k != f"{Q}.lora_A.weight"}, r"missing, lora_A \(lora_down\) of blocks.0"),
    (lambda t: {k: v for k, v in t.items() if k != f"{Q}.lora_B.weight"}, r"missing, lora_B \(lora_up\) of blocks.0"),
    (lambda t: t | {f"{Q}.alpha": torch.tensor(math.nan)}, "alpha of 'blocks.0.self_attn.q' has to be one finite"),
    (lambda t: t | {f"{Q}.alpha": torch.ones(2)}, "has to be one finite number"),
    (lambda t: t | {f"{Q}.lora_A.default.weight": torch.ones(4, 24)}, "two parts of the LoRA are 'down' of 'blocks.0."),
    (lambda t: t | {f"{Q}.dora_scale": torch.ones(1)}, "DoRA, which is not supported"),
    (lambda t: {f"{Q}.hada_w1_a": torch.ones(1)}, "LoHa, which is not supported"),
    (lambda t: {f"{Q}.lokr_w1": torch.ones(1)}, "LoKr, which is not supported"),
    (lambda t: t | {f"{Q}.diff": torch.ones(3)}, r"difference of 'blocks.0.attn1.to_q.weight' is \[3\], the weight is"),
    (lambda t: {"blocks.0.what.diff": torch.ones(3)}, "'blocks.0.what.weight', which is not there"),
    (lambda t: t | {"x.lora_B.bias": torch.ones(3)}, "the LoRA of 'x' has a bias, and no halves"),
    (
        lambda t: {f"transformer_2.blocks.0.attn1.to_q.lora_{s}.weight": torch.ones(4, 4) for s in "AB"},
        "'transformer_2.blocks.0.attn1.to_q', which is no linear layer .nearest: blocks.0.attn1.to_q.",
    ),
    (
        lambda t: {f"lora_te_text_model_fc1.lora_{s}.weight": torch.ones(4, 4) for s in ("down", "up")},
        "'lora_te_text_model_fc1', which is no linear layer",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_unusable_tensors(
    change: Callable[[Tensors], Tensors], message: str, trained: Any, halves: Any, tmp_path: Path
) -> None:
    torch.save(change(named(halves, peft_names)), tmp_path / "lora.pt")
    with pytest.raises(InputError, match=message):
        applied(trained, tmp_path / "lora.pt")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 8}, "has rank 4, and its configuration has 8"),
        ({"use_dora": True}, "use_dora is not supported"),
        ({"peft_type": "LOHA"}, "LOHA is not supported"),
        ({"lora_alpha": "eight"}, "lora_alpha = 'eight', expected a finite number"),
        ({"lora_alpha": math.nan}, "lora_alpha = nan, expected a finite number"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern of the LoRA's configuration is malformed"),
        ({"alpha_pattern": [1]}, "alpha_pattern has to hold numbers by module"),
    ],
)
def test_unusable_configurations(
    config: dict[str, Any], message: str, trained: Any, halves: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        applied(trained, peft_folder(tmp_path, named(halves, peft_names), **config))


def test_a_configuration_that_is_no_json(trained: Any, halves: Any, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, named(halves, peft_names))
    for text in ("{", "[]", "3"):
        (folder / CONFIG_FILE).write_text(text)
        with pytest.raises(InputError, match=r"adapter_config\.json is not the configuration of a LoRA"):
            applied(trained, folder)


def test_an_alpha_that_is_no_number(halves: Any, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path, named(halves, peft_names))
    with pytest.raises(InputError, match="alpha has to be a finite number, got nan"):
        read_lora(folder, math.nan)
