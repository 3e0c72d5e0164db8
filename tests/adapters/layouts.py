"""Tiny checkpoints as the causal Wan projects write them: original names, wrappers, entries, LoRA files."""

from __future__ import annotations

import copy
from typing import Any

import torch
from diffusers import WanPipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from streamt1_plugins.cli import main as cli
from streamt1_plugins.plugins.discovery import discovery
from streamt1_wan.keys import diffusers_key
from tests.adapters.tiny import seeded, tiny_pipeline

PARTS = [f"{a}_attn.{p}.{leaf}" for a in ("self", "cross") for p in "qkvo" for leaf in ("weight", "bias")]
PARTS += [f"{a}_attn.norm_{p}.weight" for a in ("self", "cross") for p in "qk"]
PARTS += [f"{m}.{leaf}" for m in ("norm3", "ffn.0", "ffn.2") for leaf in ("weight", "bias")] + ["modulation"]
WHOLE = ["text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1"]
NAMES = [
    "head.modulation",
    *(f"{m}.{leaf}" for m in (*WHOLE, "head.head", "patch_embedding") for leaf in ("weight", "bias")),
]

Tensors = dict[str, torch.Tensor]


def original(transformer: Any) -> Tensors:
    """The weights under the names of the original Wan code."""
    state = transformer.state_dict()
    layers = transformer.config.num_layers
    names = [*NAMES, *(f"blocks.{layer}.{part}" for layer in range(layers) for part in PARTS)]
    return {name: state[diffusers_key(name)] for name in names}


def wrapped(tensors: Tensors) -> Tensors:
    """As FSDP names the weights of a wrapper's `model`."""
    return {f"model.{name.replace('blocks.', 'blocks._fsdp_wrapped_module.', 1)}": x for name, x in tensors.items()}


def prefixed(tensors: Tensors) -> Tensors:
    return {f"model.{name}": x for name, x in tensors.items()}


def noisy(tensors: Tensors) -> Tensors:
    """Other weights of the same names, for an entry that must not be taken."""
    return {name: x + 1 for name, x in tensors.items()}


def command_line() -> Any:
    """The command line with the commands of plugins, as `streamt1` runs it; the module's own is left alone."""
    app = copy.copy(cli.app)
    app.registered_commands = [*cli.app.registered_commands]
    discovery().add_commands(app)
    return app


def base_pipeline(transformer: Any) -> WanPipeline:
    """A pipeline that can be saved and loaded: with a real, if tiny, tokenizer."""
    vocabulary = {
        "<pad>": 0,
        "</s>": 1,
        **{word: 2 + i for i, word in enumerate(["a", "red", "circle", "on", "blue", "ground"])},
    }
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="</s>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    pipe = tiny_pipeline(transformer=transformer)
    pipe.register_modules(tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>"))
    return pipe


def lora(transformer: Any, rank: int = 4) -> Tensors:
    """Updates of every linear layer inside the blocks, named as peft saves them from the original classes."""
    generator, found = seeded(3), {}
    for name, weight in original(transformer).items():
        if name.startswith("blocks.") and name.endswith(".weight") and weight.ndim == 2:
            module = f"base_model.model.{name.removesuffix('.weight')}"
            rows, columns = weight.shape
            found[f"{module}.lora_A.weight"] = torch.randn(rank, columns, generator=generator) * 0.2
            found[f"{module}.lora_B.weight"] = torch.randn(rows, rank, generator=generator) * 0.2
    return found
