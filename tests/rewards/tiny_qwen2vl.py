"""A tiny Qwen2-VL in the layouts of the real checkpoints; its weights are computed, so every machine has the same."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

HIDDEN, LAYERS, KV = 32, 2, 16
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
ROWS = 256 + len(SPECIAL)
IMAGE, VIDEO = ROWS - 2, ROWS - 1
VISION = {
    "depth": 2, "embed_dim": 32, "hidden_size": HIDDEN, "num_heads": 2, "mlp_ratio": 2, "in_chans": 3,
    "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2,
    "model_type": "qwen2_vl", "hidden_act": "quick_gelu",
}  # fmt: skip
CONFIG = {  # flat, as published with transformers 4.45
    "architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl", "hidden_size": HIDDEN,
    "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "num_key_value_heads": 1,
    "vocab_size": 400, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_act": "silu",
    "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": LAYERS, "tie_word_embeddings": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "bos_token_id": 256, "eos_token_id": 258,
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": 259, "vision_end_token_id": 260,
    "vision_token_id": 261, "vision_config": VISION,
}  # fmt: skip
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LINEARS = {
    "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (KV, HIDDEN), "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (48, HIDDEN), "mlp.up_proj": (48, HIDDEN),
    "mlp.down_proj": (HIDDEN, 48),
}  # fmt: skip


def weight(name: str, *shape: int, scale: float | None = None) -> Tensor:
    """Noise that depends on the name alone; norms around 1, the rest shrunk by its fan-in."""
    count = torch.Size(shape).numel()
    wave = torch.sin(torch.arange(count, dtype=torch.float64) * 12.9898 + zlib.crc32(name.encode()) % 997) * 43758.5453
    noise = ((wave - wave.floor()) * 2 - 1).view(shape).float()
    if "norm" in name or ".ln_" in name:
        return 1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise
    fan_in = torch.Size(shape[1:]).numel() if len(shape) > 1 else 16
    return noise * (scale if scale is not None else 1.7 / fan_in**0.5)


def shapes(rows: int) -> dict[str, tuple[int, ...]]:
    """Every tensor of the network, keys as Qwen2-VL was published with."""
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (rows, HIDDEN), "model.norm.weight": (HIDDEN,), "lm_head.weight": (rows, HIDDEN),
        "visual.patch_embed.proj.weight": (32, 3, 2, 14, 14), "visual.merger.ln_q.weight": (32,),
        "visual.merger.ln_q.bias": (32,), "visual.merger.mlp.0.weight": (128, 128), "visual.merger.mlp.0.bias": (128,),
        "visual.merger.mlp.2.weight": (HIDDEN, 128), "visual.merger.mlp.2.bias": (HIDDEN,),
    }  # fmt: skip
    for i in range(2):
        block = f"visual.blocks.{i}."
        found |= {f"{block}norm{n}.{kind}": (32,) for n in (1, 2) for kind in ("weight", "bias")}
        for name, (out, into) in {
            "attn.qkv": (96, 32),
            "attn.proj": (32, 32),
            "mlp.fc1": (64, 32),
            "mlp.fc2": (32, 64),
        }.items():
            found |= {f"{block}{name}.weight": (out, into), f"{block}{name}.bias": (out,)}
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        found |= {f"{layer}{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
        found |= {f"{layer}{name}.weight": shape for name, shape in LINEARS.items()}
        found |= {f"{layer}self_attn.{name}_proj.bias": (n,) for name, n in (("q", HIDDEN), ("k", KV), ("v", KV))}
    return found


def network_state(rows: int) -> dict[str, Tensor]:
    return {name: weight(name, *shape) for name, shape in shapes(rows).items()}


def ranking_head_state() -> dict[str, Tensor]:
    found = {}
    for layer, (out, into) in {0: (24, HIDDEN), 3: (16, 24), 5: (2, 16)}.items():
        found[f"rm_head.{layer}.weight"] = weight(f"rm_head.{layer}.weight", out, into)
        found[f"rm_head.{layer}.bias"] = weight(f"rm_head.{layer}.bias", out)
    return found


def linear_head_state() -> dict[str, Tensor]:
    return {"rm_head.weight": weight("rm_head.weight", 1, HIDDEN)}


def frames(count: int, height: int = 56, width: int = 84) -> Tensor:
    """``[count, 3, height, width]`` uint8: smooth waves, other ones in every frame."""
    t = torch.arange(count).view(-1, 1, 1, 1)
    c, y, x = torch.arange(3).view(1, -1, 1, 1), torch.arange(height).view(1, 1, -1, 1), torch.arange(width)
    return ((torch.sin(x * (0.05 + 0.02 * t) + c) * torch.cos(y * 0.07 + t) + 1) * 127.5).to(torch.uint8)


def sequence(mark: int, visual_tokens: int, length: int, specials: list[int]) -> list[int]:
    """Token ids with text before, around and after the visual tokens, special tokens near the end."""
    text = [(7 * i + length) % 250 for i in range(length)]
    return [257, *text[:5], 259, *[mark] * visual_tokens, 260, *text[5:], *specials, 258]


def save_base(folder: Path) -> Path:
    """Configuration and tokenizer of the base model, no weights: nothing else is read of it."""
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    vocabulary = {char: i for i, char in enumerate(bytes_to_unicode().values())}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], bos_token=None, eos_token=None, pad_token=None)
    tokenizer.add_tokens(SPECIAL, special_tokens=True)
    tokenizer.pad_token, tokenizer.eos_token = SPECIAL[0], SPECIAL[2]
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return folder


def save_hpsv3(folder: Path, state: dict[str, Tensor] | None = None) -> Path:
    """`HPSv3.safetensors` with its head, one row more for the reward token."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state or network_state(ROWS + 1) | ranking_head_state(), folder / "HPSv3.safetensors")
    return folder


def peft_state(scale: float, rank: int = 4) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(as PEFT saves it, the same merged): LoRA on the language model's layers, the head saved beside it."""
    merged = network_state(ROWS + 3) | linear_head_state()
    saved: dict[str, Tensor] = {}
    for name, value in merged.items():
        layer = name.removesuffix(".weight")
        if not any(layer.endswith(linear) for linear in LINEARS):
            inner = name.replace(".bias", ".base_layer.bias") if "_proj.bias" in name and "layers" in name else name
            saved[f"base_model.model.{inner}"] = value
            continue
        down, up = weight(f"{layer}.A", rank, value.shape[1]), weight(f"{layer}.B", value.shape[0], rank, scale=0.1)
        saved[f"base_model.model.{layer}.base_layer.weight"] = value - scale * up @ down
        saved[f"base_model.model.{layer}.lora_A.default.weight"] = down
        saved[f"base_model.model.{layer}.lora_B.default.weight"] = up
    return saved, merged


MODEL_CONFIG = {
    "data_config": {
        "fps": 2.0, "max_frame_pixels": 200704, "num_frames": None, "sample_type": "uniform",
        "prompt_template_type": "detailed_special", "eval_dim": ["VQ", "MQ", "TA"], "meta_data": "x", "data_dir": "x",
    },
    "model_config": {"output_dim": 1, "reward_token": "special", "use_special_tokens": True},
    "peft_lora_config": {"lora_enable": True, "lora_r": 4, "lora_alpha": 8, "use_rslora": False},
    "inference_config": {
        "VQ_mean": 0.5, "VQ_std": 2.0, "MQ_mean": -0.25, "MQ_std": 0.5, "TA_mean": 1.0, "TA_std": 4.0,
    },
}  # fmt: skip


def save_videoalign(folder: Path, state: dict[str, Tensor] | None = None, config: dict | None = None) -> Path:
    """`model_config.json` and `checkpoint-11352/model.pth` as PEFT saves it."""
    checkpoint = folder / "checkpoint-11352"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (folder / "model_config.json").write_text(json.dumps(config or MODEL_CONFIG), encoding="utf-8")
    torch.save(state or peft_state(2.0)[0], checkpoint / "model.pth")
    return folder
