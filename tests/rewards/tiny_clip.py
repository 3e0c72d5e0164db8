"""A tiny CLIP and the small files beside it, in the layouts of the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import CLIPModel

WIDTH = 12  # of the shared space


def make_model() -> CLIPModel:
    """Random but the same everywhere on one torch version; 28 x 28 pixels, 16 tokens of text."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "vocab_size": 514, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 16, "projection_dim": WIDTH, "bos_token_id": 512, "eos_token_id": 513,
        "pad_token_id": 513,
    }  # fmt: skip
    vision = {
        "hidden_size": 20, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14, "projection_dim": WIDTH,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)).eval()
        for parameter in model.parameters():
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    model.text_projection.weight.data.neg_()  # so that pictures and texts are more alike than not
    return model


def save_clip(folder: Path) -> Path:
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    vocabulary = {word: i for i, word in enumerate([*letters, *(letter + "</w>" for letter in letters)])}
    vocabulary |= {"<|startoftext|>": 512, "<|endoftext|>": 513}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    make_model().save_pretrained(folder)
    return folder


def open_clip_state(model: CLIPModel) -> dict[str, Tensor]:
    """The model's weights under the names open_clip gives them."""
    state = model.state_dict()
    found = {
        "logit_scale": state["logit_scale"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "text_projection": state["text_projection.weight"].T,
        "visual.proj": state["visual_projection.weight"].T,
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "attn_mask": torch.zeros(16, 16),
    }
    for kind in ("weight", "bias"):
        found[f"ln_final.{kind}"] = state[f"text_model.final_layer_norm.{kind}"]
        found[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        found[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
        for tower, prefix in (("text", ""), ("vision", "visual.")):
            for i in range(2):
                here, there = f"{prefix}transformer.resblocks.{i}.", f"{tower}_model.encoder.layers.{i}."
                fused = [state[f"{there}self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
                found[f"{here}attn.in_proj_{kind}"] = torch.cat(fused)
                found[f"{here}attn.out_proj.{kind}"] = state[f"{there}self_attn.out_proj.{kind}"]
                for ours, theirs in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"), ("mlp.c_fc", "mlp.fc1")):
                    found[f"{here}{ours}.{kind}"] = state[f"{there}{theirs}.{kind}"]
                found[f"{here}mlp.c_proj.{kind}"] = state[f"{there}mlp.fc2.{kind}"]
    return {name: value.clone() for name, value in found.items()}


def aesthetic_state() -> dict[str, Tensor]:
    """Layers 0, 2, 4, 6 and 7, as the predictor was published."""
    generator = torch.Generator().manual_seed(3)
    sizes = {0: (10, WIDTH), 2: (8, 10), 4: (6, 8), 6: (4, 6), 7: (1, 4)}
    found = {}
    for layer, size in sizes.items():
        found[f"layers.{layer}.weight"] = torch.randn(size, generator=generator)
        found[f"layers.{layer}.bias"] = torch.randn(size[0], generator=generator)
    return found


def save_all(folder: Path) -> Path:
    """`clip`, and beside it the preference checkpoint and the aesthetic head."""
    save_clip(folder / "clip")
    torch.save({"state_dict": open_clip_state(make_model())}, folder / "HPS_v2.1_compressed.pt")
    torch.save(aesthetic_state(), folder / "aesthetic-model.pth")
    return folder
