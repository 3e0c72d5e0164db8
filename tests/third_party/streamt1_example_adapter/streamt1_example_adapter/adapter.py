"""The adapter of the toy pipeline: checked arguments in, five verbs out."""

import inspect
from dataclasses import dataclass

import torch

from streamt1_example_adapter import CAPABILITIES
from streamt1_example_adapter.pipeline import RollingPipeline
from streamt1_plugins import Decoded, History
from streamt1_plugins.errors import InputError, UnsupportedPipelineError, guess


@dataclass(frozen=True)
class RollingAdapter:
    """Its fields are its options in a recipe."""

    num_inference_steps: int = 2

    def load(self, model):
        return RollingPipeline(seed=int(model))

    def open(self, pipe, call, memory):
        if not isinstance(pipe, RollingPipeline):
            raise UnsupportedPipelineError(f"The adapter 'rolling' drives RollingPipeline, got {type(pipe).__name__}.")
        return RollingSession(pipe, checked(call, {"num_inference_steps": self.num_inference_steps}))


def checked(call, defaults):
    """The call's arguments over the adapter's and the pipeline's defaults; what cannot be used is refused by name."""
    own = {name: each.default for name, each in inspect.signature(RollingPipeline.__call__).parameters.items()}
    for name in call:
        if name not in own:
            raise InputError(f"Unknown argument {name!r}.{guess(name, own)}")
    values = {**own, **defaults, **call}
    if not isinstance(values["prompt"], str) or not values["prompt"]:
        raise InputError(f"`prompt` has to be one text, got {values['prompt']!r}.")
    if values["num_videos_per_prompt"] != 1:
        raise InputError("`num_videos_per_prompt` has to be 1: call once per video.")
    if values["output_type"] not in ("np", "pt", "latent"):
        raise InputError(f"`output_type` has to be np, pt or latent, got {values['output_type']!r}.")
    return values


class RollingSession:
    capabilities = CAPABILITIES

    def __init__(self, pipe, call):
        self.num_chunks, self.fps, self.prompt = call["num_chunks"], 8.0, call["prompt"]
        self.generator, self.forwards = call["generator"], 0
        self._pipe, self._call = pipe, call
        self._texts = [pipe.encode_prompt(self.prompt)]
        if call["guidance_scale"] > 1:
            self._texts.append(pipe.encode_prompt(call["negative_prompt"]))

    def root(self):
        return History(memory=torch.zeros(1, 4, 1, 1, 1))

    def draw(self, history, generator):
        return self._pipe.prepare_latents(generator)

    @torch.no_grad()
    def generate(self, history, noise, generators):
        steps, scale = self._call["num_inference_steps"], self._call["guidance_scale"]
        self.forwards += len(noise) * len(self._texts) * steps
        callback = self._call["callback_on_step_end"]
        return self._pipe.denoise(noise, history.memory, self._texts, steps, scale, callback)

    @torch.no_grad()
    def decode(self, history, latents):
        videos, states = self._pipe.decoder(latents, history.decoder)
        return [Decoded(video, state[None]) for video, state in zip(videos, states, strict=True)]

    def commit(self, history, latents, decoded, route):
        return History(
            index=history.index + 1,
            latents=(*history.latents, latents.clone()),  # a row of a batch would keep the whole batch
            frames=(*history.frames, decoded.frames.clone()),
            memory=latents.mean(dim=(2, 3, 4), keepdim=True),
            decoder=decoded.state.clone(),
        )

    def finish(self, history):
        kind = self._call["output_type"]
        if kind == "latent":
            video = torch.cat(history.latents, dim=2)
        else:
            video = self._pipe.postprocess(torch.cat(history.frames), kind)
        return {"frames": video} if self._call["return_dict"] else (video,)

    def close(self):
        """Nothing was changed on the pipeline."""
