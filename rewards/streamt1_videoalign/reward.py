"""The reward around the VideoReward checkpoint: a Qwen2-VL 2B that watches a clip and reads its prompt.

Source: https://github.com/KlingAIResearch/VideoAlign (paper arXiv 2501.13918), MIT. Written anew: frames stay in
memory, the LoRA is merged by hand, and the wording of the prompt is read from the user's copy of that repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from streamt1_backbones.checkpoint import load_strictly, merge_lora, read_state, split
from streamt1_backbones.patches import prepare
from streamt1_backbones.qwen2vl import EMBEDDING, Base, Judge, harmless
from streamt1_backbones.sources import DType, fill, find_file, text_constants
from streamt1_plugins.api.image_reward import MEGABYTE, TensorCache
from streamt1_plugins.api.reward import FrameKey, Reward, RewardInput, RewardOutput
from streamt1_plugins.errors import PluginError
from streamt1_videoalign.sampling import anchored, chunk_lengths, trained
from streamt1_videoalign.settings import DIMENSIONS, Settings, read_settings

if TYPE_CHECKING:
    from torch import Tensor, nn

TOKENS = tuple(f"<|{name}_reward|>" for name in DIMENSIONS)
TEXT = "DETAILED_PROMPT_WITH_SPECIAL_TOKEN"
MIN_PIXELS = 128 * 28 * 28
WHERE = (
    "Download prompt_template.py from https://github.com/KlingAIResearch/VideoAlign and name it: "
    "-o rewards.long.videoalign.options.template_file=prompt_template.py"
)


@dataclass(kw_only=True)
class VideoAlign(Reward):
    """Quality, motion and prompt of a whole clip by a learned judge of videos: the sum of three standardised scores.

    `parts` has visual quality (VQ), motion quality (MQ) and text alignment (TA); each is about -3..3, 0 is average.

    template_file: `prompt_template.py` of the VideoAlign repository, whose wording the judge was trained with. model,
    checkpoint: folder or repository with `model_config.json`, and the folder in it with `model.pth`. base: the Qwen2-VL
    it was trained from; only configuration and tokenizer are read. sampling: `paper` spreads frames over the whole
    window as in training; `anchored` takes the same frames of each chunk, so that what was seen of earlier chunks is
    remembered (faster, other scores). cache_mb: memory for what was seen.
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
        """Raises `PluginError` where weights, base or wording are missing or not those this was written for."""
        if self._judge is None:
            _ = self._template, self._settings  # asked for first: they cost nothing, the weights take minutes
            self._judge = self._made(device)
        self._judge.to(device)

    def score(self, inp: RewardInput) -> RewardOutput:
        judge = self._loaded
        places = self._places(inp)
        visual = torch.stack([self._seen(judge, inp.take([row]), places) for row in range(len(inp.prompts))])
        texts = [fill(self._template, harmless(prompt, judge.tokenizer)) for prompt in inp.prompts]
        ids, mask = judge.write(texts, "video", visual.shape[1])
        raw = judge.read(ids, mask, visual, "video")[..., 0]
        norms = zip(raw.unbind(1), self._settings.norms, strict=True)
        parts = [(value - mean) / std for value, (mean, std) in norms]
        return RewardOutput(torch.stack(parts).sum(0), dict(zip(DIMENSIONS, parts, strict=True)))

    def offload(self) -> None:
        """Keep the weights in main memory."""
        if self._judge is not None:
            self._judge.to("cpu")

    def unload(self) -> None:
        self._judge = None
        self._memory.clear()

    def reset(self) -> None:
        self._memory.clear()

    def _places(self, inp: RewardInput) -> list[int]:
        rate = self._settings.data_config.fps
        if self.sampling == "anchored":
            return anchored(chunk_lengths(inp), inp.fps, rate)
        return trained(int(inp.video.shape[1]), inp.fps, rate)

    def _seen(self, judge: Judge, inp: RewardInput, places: list[int]) -> Tensor:
        """``[visual tokens, hidden]`` of one candidate. Pair by pair, so that remembering changes no bit."""
        pairs = zip(places[::2], places[1::2], strict=True)
        return torch.cat([self._pair(judge, inp, *pair) for pair in pairs])

    def _pair(self, judge: Judge, inp: RewardInput, first: int, second: int) -> Tensor:
        key = (inp.frame_ids[0][first], inp.frame_ids[0][second]) if inp.frame_ids else None
        found = self._memory.get(key) if key else None
        if found is None:
            frames = inp.video[0, [first, second]].to(judge.device)
            found = judge.see(prepare(frames, MIN_PIXELS, self._settings.data_config.max_frame_pixels)[None])[0]
            if key:
                self._memory.put(key, found)
        return found

    @cached_property
    def _memory(self) -> TensorCache[tuple[FrameKey, FrameKey]]:
        return TensorCache(self.cache_mb * MEGABYTE)

    @cached_property
    def _template(self) -> str:
        if self.template_file is None or not self.template_file.expanduser().is_file():
            named = f" {self.template_file} is no file." if self.template_file else ""
            raise PluginError(f"Reward 'videoalign' needs the wording its judge was trained with.{named} {WHERE}")
        return text_constants(self.template_file.expanduser(), [TEXT])[0]

    @cached_property
    def _settings(self) -> Settings:
        return read_settings(find_file("videoalign", self.model, "model_config.json", self.revision))

    @property
    def _loaded(self) -> Judge:
        if self._judge is None:
            raise PluginError("Reward 'videoalign' is not loaded: call load(device) first.")
        return self._judge

    def _made(self, device: str) -> Judge:
        path = find_file("videoalign", self.model, f"{self.checkpoint}/model.pth", self.revision)
        state = merge_lora(read_state(path), self._settings.lora_scale)
        head, body = split(state, "rm_head.")
        base = Base("videoalign", self.base, self.base_revision)
        network = base.network(body, self.dtype, device)
        tokenizer = base.tokenizer(TOKENS, body[EMBEDDING].shape[0])
        return Judge(network, tokenizer, self._head(head, network), TOKENS)

    def _head(self, state: dict[str, Tensor], network: nn.Module) -> nn.Module:
        head = torch.nn.Linear(network.get_input_embeddings().weight.shape[1], 1, bias=False)  # type: ignore[operator]
        load_strictly(head, state, "The head of reward 'videoalign' (rm_head)")
        return head
