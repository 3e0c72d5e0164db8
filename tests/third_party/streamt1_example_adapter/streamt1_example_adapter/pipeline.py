"""A toy video pipeline: random weights, chunks of 3 latent frames, each chunk looks back at the one before."""

import numpy as np
import torch
from torch import nn

SHAPE = (4, 3, 8, 8)  # channels, latent frames of a chunk, height, width


class RollingTransformer(nn.Module):
    """Moves a noisy chunk towards what the text and the chunk before suggest."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv3d(8, 4, 3, padding=1)

    def forward(self, noisy, past, text, level):
        return torch.tanh(self.mix(torch.cat([noisy, past.expand_as(noisy)], dim=1)) + level * text)


class RollingDecoder(nn.Module):
    """Latents to pixels. Every frame is blended with the one before it, so it carries a state."""

    def __init__(self):
        super().__init__()
        self.colours = nn.Conv2d(4, 3, 1)

    def forward(self, latents, last):
        frames = []
        for latent in latents.unbind(dim=2):
            frame = torch.sigmoid(self.colours(latent)).repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
            last = frame if last is None else 0.7 * frame + 0.3 * last
            frames.append(last)
        return torch.stack(frames, dim=1), last


class RollingPipeline:
    """Text to video, any number of chunks."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.components = {"transformer": RollingTransformer().eval(), "decoder": RollingDecoder().eval()}
        self.transformer, self.decoder = self.components.values()

    def encode_prompt(self, prompt):
        generator = torch.Generator().manual_seed(sum(map(ord, prompt)))
        return torch.randn(1, 4, 1, 1, 1, generator=generator)

    def prepare_latents(self, generator):
        return torch.randn(1, *SHAPE, generator=generator)

    def denoise(self, latents, past, texts, steps, guidance_scale, callback):
        """One chunk: `texts` are the embeddings of the prompt and, with guidance, of the negative prompt."""
        for step in range(steps):
            level = torch.tensor(1 - step / steps)
            cond, *uncond = [self.transformer(latents, past, text, level) for text in texts]
            flow = uncond[0] + guidance_scale * (cond - uncond[0]) if uncond else cond
            latents = latents + (flow - latents) / steps
            if callback is not None:
                latents = callback(self, step, level, {"latents": latents}).get("latents", latents)
        return latents

    def postprocess(self, frames, output_type):
        if output_type == "pt":
            return frames[None]
        return frames.permute(0, 2, 3, 1).numpy()[None].astype(np.float32)

    @torch.no_grad()
    def __call__(
        self,
        prompt=None,
        negative_prompt="",
        num_chunks=4,
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=None,
        output_type="np",
        return_dict=True,
        num_videos_per_prompt=1,
        callback_on_step_end=None,
    ):
        texts = [self.encode_prompt(prompt)] + [self.encode_prompt(negative_prompt)] * (guidance_scale > 1)
        past, chunks = torch.zeros(1, 4, 1, 1, 1), []
        for _ in range(num_chunks):
            noise = self.prepare_latents(generator)
            chunks.append(self.denoise(noise, past, texts, num_inference_steps, guidance_scale, callback_on_step_end))
            past = chunks[-1].mean(dim=(2, 3, 4), keepdim=True)
        latents = torch.cat(chunks, dim=2)
        video = latents if output_type == "latent" else self.postprocess(self.decoder(latents, None)[0][0], output_type)
        return {"frames": video} if return_dict else (video,)
