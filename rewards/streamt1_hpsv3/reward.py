"""The reward `hpsv3`: a Qwen2-VL 7B that scores one picture and its prompt.

Model: https://github.com/MizzenAI/HPSv3 (arXiv 2508.03789). This is an independent implementation that imports nothing
of the `hpsv3` package. It reads the model's instruction from the installed package, because scores with any other
instruction mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from streamt1_backbones.checkpoint import State, load_strictly, read_state, split
from streamt1_backbones.patches import prepare
from streamt1_backbones.qwen2vl import EMBEDDING, Base, Judge, without_special_tokens
from streamt1_backbones.sources import DType, fill, find_file, installed_file, text_constants
from streamt1_plugins.api.image_reward import ImageReward
from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor, nn

FILE = "HPSv3.safetensors"
TOKEN = "<|Reward|>"
PIXELS = 256 * 28 * 28  # every picture is resized to about this area
TEXTS = ("INSTRUCTION", "prompt_with_special_token")
TEXT_FILE = "hpsv3/dataset/data_collator_qwen.py"
INSTALL = "pip install --no-deps hpsv3"


@dataclass(kw_only=True)
class HPSv3(ImageReward):
    """Human preference for single frames: their quality and match to the prompt. Unbounded, about 0..15.

    Statements about the license of the weights contradict each other, so check it before commercial use.

    model: folder or repository with `HPSv3.safetensors`. base: the Qwen2-VL that it was fine-tuned from; only its
    configuration and tokenizer are read. revision, base_revision: of the repositories. dtype: of the network; the head
    is float32. template_file: Python source with the instruction, instead of the installed `hpsv3` package.
    """

    needs_prompt: ClassVar[bool] = True
    license: ClassVar[str] = "unclear (code MIT; statements about the weights contradict each other)"
    weights: ClassVar[str] = "MizzenAI/HPSv3"
    weights_mb: ClassVar[float] = 16600
    batch_limit: ClassVar[int | None] = 12

    model: str = "MizzenAI/HPSv3"
    revision: str | None = None
    base: str = "Qwen/Qwen2-VL-7B-Instruct"
    base_revision: str | None = None
    dtype: DType = "auto"
    template_file: Path | None = None

    def __post_init__(self) -> None:
        self._judge: Judge | None = None

    def load(self, device: str) -> None:
        """Raises `PluginError` where weights, base or instruction are missing or unsupported."""
        if self._judge is None:
            _ = self._template  # first, because a missing text should not be reported after minutes of loading weights
            self._judge = self._build(device)
        self._judge.to(device)

    def score_frames(self, frames: Tensor, prompts: tuple[str, ...]) -> Tensor:
        """The predicted mean of the preference, ``[M]``; its predicted spread is not used."""
        judge = self._loaded
        pictures = prepare(frames.to(judge.device), PIXELS, PIXELS)
        visual = judge.embed(pictures[:, None].expand(-1, 2, -1, -1, -1))  # a still picture is two equal frames
        texts = [fill(self._template, without_special_tokens(prompt, judge.tokenizer)) for prompt in prompts]
        ids, mask = judge.tokenize(texts, "image", visual.shape[1])
        return judge.outputs(ids, mask, visual, "image")[:, 0, 0]

    def offload(self) -> None:
        """Move the weights to CPU memory."""
        if self._judge is not None:
            self._judge.to("cpu")

    def unload(self) -> None:
        self._judge = None

    @cached_property
    def _template(self) -> str:
        """The instruction, with the field `text_prompt` and the special token."""
        path = self.template_file or installed_file("hpsv3", "hpsv3", TEXT_FILE, INSTALL)
        return "".join(text_constants(path, TEXTS))

    @property
    def _loaded(self) -> Judge:
        if self._judge is None:
            raise PluginError("Reward 'hpsv3' is not loaded: call load(device) first.")
        return self._judge

    def _build(self, device: str) -> Judge:
        head, body = split(read_state(find_file("hpsv3", self.model, FILE, self.revision)), "rm_head.")
        base = Base("hpsv3", self.base, self.base_revision)
        network = base.network(body, self.dtype, device)
        tokenizer = base.tokenizer((TOKEN,), body[EMBEDDING].shape[0])
        return Judge(network, tokenizer, ranking_head(head), (TOKEN,))


def ranking_head(state: State) -> nn.Module:
    """Three linear layers that predict mean and spread of the preference, with the sizes of the checkpoint."""
    from torch import nn

    shapes = [tuple(state[f"{layer}.weight"].shape) for layer in (0, 3, 5) if f"{layer}.weight" in state]
    sizes = [(columns, rows) for rows, columns in shapes] if len(shapes) == 3 else [(1, 1)] * 3
    first, second, last = (nn.Linear(*size) for size in sizes)
    head = nn.Sequential(first, nn.ReLU(), nn.Identity(), second, nn.ReLU(), last)  # the third layer was dropout
    load_strictly(head, state, "The head of reward 'hpsv3' (rm_head)")
    return head
