"""The reward `videoalign`: a Qwen2-VL 2B that scores a clip and its prompt.

Model: https://github.com/KlingAIResearch/VideoAlign (arXiv 2501.13918), MIT. This is an independent implementation:
frames stay in memory, and the model's instruction is read from the user's copy of a file of that repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from streamt1_backbones.checkpoint import load_strictly, merge_lora, read_state, split
from streamt1_backbones.patches import prepare
from streamt1_backbones.qwen2vl import EMBEDDING, Base, Judge, without_special_tokens
from streamt1_backbones.sources import DType, fill, find_file, text_constants
from streamt1_plugins.api.image_reward import MEBIBYTE, TensorCache
from streamt1_plugins.api.reward import FrameKey, Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError
from streamt1_plugins.process.imports import deferred
from streamt1_videoalign.sampling import anchored, chunk_lengths, trained
from streamt1_videoalign.settings import DIMENSIONS, Settings, read_settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = deferred("torch")

TOKENS = tuple(f"<|{name}_reward|>" for name in DIMENSIONS)
TEXT = "DETAILED_PROMPT_WITH_SPECIAL_TOKEN"
MIN_PIXELS = 128 * 28 * 28
WHERE = (
    "Download prompt_template.py from https://github.com/KlingAIResearch/VideoAlign and pass its path: "
    "-o rewards.long.videoalign.options.template_file=prompt_template.py"
)


@dataclass(kw_only=True)
class VideoAlign(Reward):
    """Visual quality, motion quality and text alignment of a whole clip: the sum of three standardised scores.

    `parts` has visual quality (VQ), motion quality (MQ) and text alignment (TA); each is about -3..3, 0 is average.

    template_file: `prompt_template.py` of the VideoAlign repository, with the instruction of the training. model,
    checkpoint: folder or repository with `model_config.json`, and the folder in it with `model.pth`. base: the Qwen2-VL
    that it was fine-tuned from; only its configuration and tokenizer are read. sampling: `paper` spreads frames over
    the whole window as in training; `anchored` takes the same frames of each chunk, so that embeddings of earlier
    chunks are cached (faster, other scores). cache_mb: size of the cache in MB.
    """

    needs_prompt: ClassVar[bool] = True
    license: ClassVar[str] = "MIT"
    weights: ClassVar[str] = "KlingTeam/VideoReward"
    weights_mb: ClassVar[float] = 5031
    batch_limit: ClassVar[int | None] = 8

    template_file: Path | None = None
    model: str = "KlingTeam/VideoReward"
    revision: str | None = None
    checkpoint: str = "checkpoint-11352"
    base: str = "Qwen/Qwen2-VL-2B-Instruct"
    base_revision: str | None = None
    dtype: DType = "auto"
    sampling: Literal["paper", "anchored"] = "paper"
    cache_mb: Annotated[float, Field(ge=0)] = 256.0

    def __post_init__(self) -> None:
        self._judge: Judge | None = None

    def load(self, device: str) -> None:
        """Raises `PluginError` where weights, base or instruction are missing or unsupported."""
        if self._judge is None:
            _ = (
                self._template,
                self._settings,
            )  # first, because a missing file should not be reported after minutes of loading
            self._judge = self._build(device)
        self._judge.to(device)

    def score(self, inp: RewardInput) -> RewardOutput:
        judge = self._loaded
        indices = self._sampled(inp)
        visual = torch.stack([self._embedded(judge, inp.take([row]), indices) for row in range(len(inp.prompts))])
        texts = [fill(self._template, without_special_tokens(prompt, judge.tokenizer)) for prompt in inp.prompts]
        ids, mask = judge.tokenize(texts, "video", visual.shape[1])
        raw = judge.outputs(ids, mask, visual, "video")[..., 0]
        norms = zip(raw.unbind(1), self._settings.norms, strict=True)
        parts = [(value - mean) / std for value, (mean, std) in norms]
        return RewardOutput(torch.stack(parts).sum(0), dict(zip(DIMENSIONS, parts, strict=True)))

    def offload(self) -> None:
        """Move the weights to CPU memory."""
        if self._judge is not None:
            self._judge.to("cpu")

    def unload(self) -> None:
        self._judge = None
        self._cache.clear()

    def reset(self) -> None:
        self._cache.clear()

    def _sampled(self, inp: RewardInput) -> list[int]:
        rate = self._settings.data_config.fps
        if self.sampling == "anchored":
            return anchored(chunk_lengths(inp), inp.fps, rate)
        return trained(int(inp.video.shape[1]), inp.fps, rate)

    def _embedded(self, judge: Judge, inp: RewardInput, indices: list[int]) -> Tensor:
        """Visual tokens ``[tokens, hidden]`` of one candidate, pair by pair, so that the cache changes no bit."""
        pairs = zip(indices[::2], indices[1::2], strict=True)
        return torch.cat([self._pair(judge, inp, *pair) for pair in pairs])

    def _pair(self, judge: Judge, inp: RewardInput, first: int, second: int) -> Tensor:
        key = (inp.frame_ids[0][first], inp.frame_ids[0][second]) if inp.frame_ids else None
        found = self._cache.get(key) if key else None
        if found is None:
            frames = inp.video[0, [first, second]].to(judge.device)
            found = judge.embed(prepare(frames, MIN_PIXELS, self._settings.data_config.max_frame_pixels)[None])[0]
            if key:
                self._cache.put(key, found)
        return found

    @cached_property
    def _cache(self) -> TensorCache[tuple[FrameKey, FrameKey]]:
        return TensorCache(self.cache_mb * MEBIBYTE)

    @cached_property
    def _template(self) -> str:
        if self.template_file is None or not self.template_file.expanduser().is_file():
            named = f" {self.template_file} is not a file." if self.template_file else ""
            raise PluginError(
                f"Reward 'videoalign' needs the instruction that its model was trained with.{named} {WHERE}"
            )
        return text_constants(self.template_file.expanduser(), [TEXT])[0]

    @cached_property
    def _settings(self) -> Settings:
        return read_settings(find_file("videoalign", self.model, "model_config.json", self.revision))

    @property
    def _loaded(self) -> Judge:
        if self._judge is None:
            raise PluginError("Reward 'videoalign' is not loaded: call load(device) first.")
        return self._judge

    def _build(self, device: str) -> Judge:
        path = find_file("videoalign", self.model, f"{self.checkpoint}/model.pth", self.revision)
        lora = self._settings.peft_lora_config
        state = merge_lora(read_state(path), self._settings.lora_scale, lora.lora_r)
        head, body = split(state, "rm_head.")
        base = Base("videoalign", self.base, self.base_revision)
        network = base.network(body, self.dtype, device)
        tokenizer = base.tokenizer(TOKENS, body[EMBEDDING].shape[0])
        return Judge(network, tokenizer, self._head(head, network), TOKENS)

    def _head(self, state: dict[str, Tensor], network: nn.Module) -> nn.Module:
        head = torch.nn.Linear(network.get_input_embeddings().weight.shape[1], 1, bias=False)  # type: ignore[operator]
        load_strictly(head, state, "The head of reward 'videoalign' (rm_head)")
        return head
