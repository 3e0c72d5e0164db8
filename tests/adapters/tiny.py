"""Tiny random Wan components, built without the hub, whose every parameter matters."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

TRANSFORMER: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 64,
    "ffn_dim": 32,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 64,
}


M = TypeVar("M", bound=torch.nn.Module)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(module: M, scale: float = 0.05) -> M:
    """Move every parameter off its initial value, so that no gate is zero and no norm the identity."""
    generator = seeded(7)
    for parameter in module.parameters():
        parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def tiny_transformer(**changes: Any) -> WanTransformer3DModel:
    torch.manual_seed(0)
    return shaken(WanTransformer3DModel(**{**TRANSFORMER, **changes}))


def tiny_vae(**changes: Any) -> AutoencoderKLWan:
    torch.manual_seed(0)
    sizes = {"base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return AutoencoderKLWan(**{**sizes, "temperal_downsample": [False, True, True], **changes}).eval()


class TinyTokenizer:
    """A token per word and an end token, in the shape `WanPipeline` expects of a tokenizer."""

    def __call__(self, text: str | list[str], max_length: int | None = None, **_: Any) -> Any:
        from transformers import BatchEncoding

        if isinstance(text, str):
            return BatchEncoding({"input_ids": self._ids(text)})
        assert max_length is not None
        rows = [self._ids(each)[:max_length] for each in text]
        ids = torch.tensor([row + [0] * (max_length - len(row)) for row in rows])
        return BatchEncoding({"input_ids": ids, "attention_mask": (ids > 0).long()})

    @staticmethod
    def _ids(text: str) -> list[int]:
        return [2 + sum(map(ord, word)) % 90 for word in text.split()] + [1]


def tiny_text_encoder() -> Any:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=4)
    return T5EncoderModel(config).eval()


def tiny_pipeline(*, transformer: Any = None, vae: Any = None, text: bool = True, **changes: Any) -> WanPipeline:
    """A whole `WanPipeline`; `changes` go into the transformer's configuration."""
    pipe = WanPipeline(
        transformer=transformer or tiny_transformer(**changes),
        vae=vae or tiny_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder=tiny_text_encoder() if text else None,
        tokenizer=None,
    )
    pipe.tokenizer = TinyTokenizer() if text else None
    pipe.set_progress_bar_config(disable=True)
    return pipe
