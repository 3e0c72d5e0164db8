"""Writes and reads the model as a stock `WanPipeline` folder in bf16."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from streamt1_tinyworld.training.fit import Network
from streamt1_tinyworld.training.sampler import Model
from streamt1_tinyworld.training.vae import make_vae, whole_clips


def stock_vae(trained: nn.Module, mean: Tensor, std: Tensor) -> AutoencoderKLWan:
    """A stock VAE with the trained weights and the statistics of its latents."""
    vae = make_vae()
    vae.load_state_dict(trained.state_dict())
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return vae.eval()


def export(folder: Path, tokenizer: PreTrainedTokenizerFast, vae: AutoencoderKLWan, network: Network) -> None:
    """Save everything `WanPipeline.from_pretrained(folder)` needs."""
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=copy.deepcopy(network.text_encoder).eval(),
        vae=copy.deepcopy(vae),
        transformer=copy.deepcopy(network.transformer).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipeline.to("cpu", torch.bfloat16).save_pretrained(folder)


def load(folder: Path, device: torch.device) -> Model:
    """The exported parts in fp32 on a device, for evaluation."""
    pipeline = WanPipeline.from_pretrained(folder, torch_dtype=torch.float32).to(device)
    return Model(
        pipeline.tokenizer, pipeline.text_encoder.eval(), pipeline.transformer.eval(), whole_clips(pipeline.vae.eval())
    )
