"""A tiny random FramePack pipeline with all its encoders, built without the hub."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
)

from tests.adapters.tiny import TinyTokenizer, shaken


class TemplateTokenizer(TinyTokenizer):
    """Ends with the prompt's words behind as many tokens as HunyuanVideo cuts off for its template."""

    @staticmethod
    def _ids(text: str) -> list[int]:
        return [2] * 95 + TinyTokenizer._ids(text)[-8:]


class ClipTokenizer(TinyTokenizer):
    """Pads to a fixed length, or not at all where the pipeline looks for what was cut off."""

    def __call__(self, text: str | list[str], max_length: int | None = None, **rest: Any) -> Any:
        return super().__call__(text, max_length=max_length or 12, **rest)


def tiny_framepack_transformer() -> HunyuanVideoFramepackTransformer3DModel:
    torch.manual_seed(0)
    return shaken(
        HunyuanVideoFramepackTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=10,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            text_embed_dim=16,
            pooled_projection_dim=8,
            rope_axes_dim=(2, 4, 4),
            has_image_proj=True,
            image_proj_dim=32,
            has_clean_x_embedder=True,
        )
    )


def tiny_hunyuan_vae() -> AutoencoderKLHunyuanVideo:
    torch.manual_seed(0)
    return AutoencoderKLHunyuanVideo(
        latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


def tiny_encoders() -> dict[str, Any]:
    """The two text encoders, the image encoder and their preprocessors."""
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        LlamaConfig,
        LlamaModel,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    torch.manual_seed(0)
    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    llama = LlamaConfig(vocab_size=100, hidden_size=16, **small)
    clip = CLIPTextConfig(vocab_size=100, hidden_size=8, bos_token_id=0, eos_token_id=1, pad_token_id=0, **small)
    siglip = SiglipVisionConfig(hidden_size=32, image_size=30, patch_size=15, **small)
    return {
        "text_encoder": LlamaModel(llama).eval(),
        "tokenizer": None,
        "text_encoder_2": CLIPTextModel(clip).eval(),
        "tokenizer_2": None,
        "image_encoder": SiglipVisionModel(siglip).eval(),
        "feature_extractor": SiglipImageProcessorPil(size={"height": 30, "width": 30}),
    }


def tiny_framepack() -> HunyuanVideoFramepackPipeline:
    pipe = HunyuanVideoFramepackPipeline(
        transformer=tiny_framepack_transformer(),
        vae=tiny_hunyuan_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        **tiny_encoders(),
    )
    pipe.tokenizer, pipe.tokenizer_2 = TemplateTokenizer(), ClipTokenizer()
    pipe.set_progress_bar_config(disable=True)
    return pipe
