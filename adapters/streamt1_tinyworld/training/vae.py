"""The tiny Wan VAE: stock weights, an encoder and a decoder that take a whole clip at once, and their training.

The stock classes process a clip latent frame by latent frame with feature caches. Training needs one parallel pass,
which only `WanResample` prevents, so its instances in the trained model get a clip-wise forward. The exported weights
are stock weights, and both ways agree to float precision.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample, patchify, unpatchify
from torch import Tensor, nn

from streamt1_tinyworld.scene import Scene, render
from streamt1_tinyworld.training.optim import Optimisers

LATENTS = 16
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """A stretch of the VAE's curriculum: clips of `frames` frames (1 + 4n), `batch` of them per step."""

    frames: int
    batch: int
    steps: int


PHASES = (Phase(1, 256, 300), Phase(5, 128, 600), Phase(9, 96, 1100), Phase(17, 64, 250))


def make_vae() -> AutoencoderKLWan:
    """An untrained VAE: 8x in space (2 of it patches), 4x in time, 16 latent channels, 1.9 M weights."""
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=LATENTS,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[True, True],
        in_channels=12,
        out_channels=12,
        patch_size=2,
        latents_mean=[0.0] * LATENTS,
        latents_std=[1.0] * LATENTS,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )


def whole_clips(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """The same VAE, whose resamplers now take a whole clip where they get no feature cache."""
    for module in vae.modules():
        if isinstance(module, WanResample):
            object.__setattr__(module, "forward", partial(_resample_clip, module))
    return vae


def _resample_clip(
    module: WanResample, x: Tensor, feat_cache: list[Tensor] | None = None, feat_idx: object = None
) -> Tensor:
    if feat_cache is not None:
        result: Tensor = WanResample.forward(module, x, feat_cache, feat_idx)
        return result
    n, channels, frames = x.shape[:3]
    if module.mode == "upsample3d" and frames > 1:  # the first latent frame becomes one frame, every other one two
        later = module.time_conv(x[:, :, 1:]).unflatten(1, (2, channels))
        later = later.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
        x = torch.cat([x[:, :, :1], later], 2)
    frames = x.shape[2]
    x = module.resample(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (n, frames)).transpose(1, 2)
    if module.mode == "downsample3d" and frames > 1:
        x = torch.cat([x[:, :, :1], module.time_conv(x)], 2)
    return x


def encode(vae: AutoencoderKLWan, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [N, 1+4n, 3, 64, 64] in 0..1 -> mean and log-variance [N, 16, 1+n, 8, 8] of the raw latents."""
    hidden = vae.encoder(patchify(frames.transpose(1, 2) * 2 - 1, patch_size=2))
    mean, log_variance = vae.quant_conv(hidden).float().chunk(2, 1)
    return mean, log_variance.clamp(-20, 6)


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Raw latents [N, 16, 1+n, 8, 8] -> frames [N, 1+4n, 3, 64, 64], around 0..1 and not clamped."""
    frames = unpatchify(vae.decoder(vae.post_quant_conv(latents)), patch_size=2)
    result: Tensor = (frames.float().transpose(1, 2) + 1) / 2
    return result


@torch.no_grad()
def inflate(vae: AutoencoderKLWan) -> None:
    """Initialise as a per-frame network: early time taps near zero, repeating time convolutions, a narrow posterior."""
    for module in vae.modules():
        if not isinstance(module, WanCausalConv3d) or module.weight.shape[2] != 3:
            continue
        if module.weight.shape[3] == 3:
            module.weight[:, :, :2] *= 0.1
            continue
        out, into = module.weight.shape[:2]
        module.weight *= 0.2
        if module.bias is not None:
            module.bias.zero_()
        module.weight[:, :, 2, 0, 0] += torch.eye(into).repeat(out // into, 1)
    vae.quant_conv.weight[LATENTS:] *= 0.05
    assert vae.quant_conv.bias is not None
    vae.quant_conv.bias[LATENTS:] = -5.0


def reconstruction_loss(output: Tensor, frames: Tensor) -> Tensor:
    """L1 + L2/2, plus twice the same on the colour difference alone, object pixels four times (frames in 0..1)."""
    error = 2 * (output - frames)
    chroma = error - error.mean(2, keepdim=True)
    contrast = (frames - frames.mean((3, 4), keepdim=True)).abs().amax(2, keepdim=True)
    weight = 1 + 3 * (contrast > 0.15)
    return (weight * (error.abs() + error**2 / 2 + 2 * chroma.abs() + chroma**2)).mean()


def train_vae(scenes: Scene, phases: tuple[Phase, ...], lr: float = 3e-3) -> AutoencoderKLWan:
    """Train on windows of the scenes, on the scenes' device. Logs step, loss, PSNR and clips/s."""
    device = scenes.radius.device
    vae = whole_clips(make_vae())
    inflate(vae)
    vae.to(device).train()
    ends = ("encoder.conv_in", "decoder.conv_out", "quant_conv", "post_quant_conv")
    kernels = [
        p for name, p in vae.named_parameters() if p.ndim >= 4 and not name.startswith(ends) and "gamma" not in name
    ]
    optimisers, total, step = Optimisers(vae, kernels, lr), sum(phase.steps for phase in phases), 0
    for phase in phases:
        started = time.perf_counter()
        for index in range(phase.steps):
            loss, squared = _vae_step(vae, scenes, phase)
            optimisers.step(step, total)
            step += 1
            if index % 100 == 99 or index == phase.steps - 1:
                psnr = -10 * math.log10(float(squared))
                rate = (index + 1) * phase.batch / (time.perf_counter() - started)
                text = "vae step %d/%d  %d frames  loss %.4f  psnr %.2f dB  %.0f clips/s"
                log.info(text, step, total, phase.frames, float(loss), psnr, rate)
    return vae.eval().requires_grad_(False)


def _vae_step(vae: nn.Module, scenes: Scene, phase: Phase) -> tuple[Tensor, Tensor]:
    device = scenes.radius.device
    rows = torch.randint(len(scenes.radius), (phase.batch,), device=device)
    start = int(torch.randint(200, ()))
    frames = render(scenes.take(rows), start, start + phase.frames)
    with torch.autocast(device.type, torch.bfloat16):
        mean, log_variance = encode(vae, frames)
        # a little more noise than the posterior's, so that the decoder tolerates errors of the sampler
        extra = 0.1 * torch.rand(phase.batch, 1, 1, 1, 1, device=device) * mean.detach().std()
        spread = (log_variance.exp() + extra**2).sqrt()
        output = decode(vae, mean + spread * torch.randn_like(mean))
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
    loss = reconstruction_loss(output, frames) + (2e-6 if phase.frames == 1 else 2e-5) * kl
    torch.autograd.backward(loss)
    return loss.detach(), (output.detach() - frames).pow(2).mean()


@torch.no_grad()
def measure_psnr(vae: AutoencoderKLWan, scenes: Scene, frames: int = 81) -> float:
    """Mean PSNR in dB of reconstructing the scenes' first `frames` frames from posterior means."""
    values = []
    for rows in torch.split(torch.arange(len(scenes.radius), device=scenes.radius.device), 8):
        clip = render(scenes.take(rows), 0, frames)
        with torch.autocast(clip.device.type, torch.bfloat16):
            output = decode(vae, encode(vae, clip)[0]).clamp(0, 1)
        values.append(-10 * (output - clip).pow(2).mean((1, 2, 3, 4)).log10())
    return float(torch.cat(values).mean())
