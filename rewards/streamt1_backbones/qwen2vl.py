"""A Qwen2-VL that judges: a head reads the hidden states at special tokens of a filled-in prompt template.

Such judges were trained with plain positions 0, 1, 2, ... for every token, pictures included, because the release they
were trained with made three-dimensional positions only for generating text. Newer releases make them everywhere, which
silently changes every score: here positions are always passed, and a test pins them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from streamt1_backbones.checkpoint import State, check_finite, check_keys
from streamt1_backbones.patches import MERGE, PATCH, patchify
from streamt1_backbones.sources import fetching, find_file, quiet, torch_dtype
from streamt1_plugins.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from streamt1_backbones.sources import DType

EMBEDDING = "model.embed_tokens.weight"
Medium = Literal["image", "video"]


@dataclass(frozen=True)
class Base:
    """The model a judge was trained from: its configuration and tokenizer are needed, its weights are not.

    reward: who asks, for errors.
    """

    reward: str
    model: str
    revision: str | None = None

    def network(self, state: State, dtype: DType, device: str) -> nn.Module:
        """The network with `state`, keys as Qwen2-VL was published with; the language head is left out.

        Raises `PluginError` that lists missing and unknown keys.
        """
        from transformers import AutoConfig, Qwen2VLModel

        if EMBEDDING not in state:
            raise PluginError(f"The checkpoint of reward {self.reward!r} has no {EMBEDDING!r}.")
        with fetching(self.reward, self.model):
            config = AutoConfig.from_pretrained(self.model, revision=self.revision)
        config.text_config.vocab_size = state[EMBEDDING].shape[0]
        body = {name: value for name, value in state.items() if name != "lm_head.weight"}
        kind = torch_dtype(dtype, device)
        with quiet():
            made = Qwen2VLModel.from_pretrained(
                None, config=config, state_dict=body, dtype=kind, output_loading_info=True
            )
        network: nn.Module = made[0].to(device).eval()
        check_keys(f"The checkpoint of reward {self.reward!r}", made[1]["missing_keys"], made[1]["unexpected_keys"])
        check_finite(network, f"The checkpoint of reward {self.reward!r}")
        return network

    def tokenizer(self, tokens: Sequence[str], rows: int) -> Any:
        """The tokenizer with the judge's special `tokens`, whose ids must be the last of `rows` embeddings."""
        from transformers import AutoTokenizer

        with fetching(self.reward, self.model):
            tokenizer = AutoTokenizer.from_pretrained(self.model, revision=self.revision, padding_side="right")
        tokenizer.add_tokens(list(tokens), special_tokens=True)
        ids = tokenizer.convert_tokens_to_ids(list(tokens))
        expected = list(range(rows - len(tokens), rows))
        if ids != expected:
            raise PluginError(
                f"Reward {self.reward!r}: the special tokens {', '.join(tokens)} have ids {ids}, but the checkpoint "
                f"was trained with {expected}. {self.model!r} is not the tokenizer it was trained with."
            )
        if tokenizer.chat_template is None:  # older repositories keep it beside the processor
            path = find_file(self.reward, self.model, "chat_template.json", self.revision)
            tokenizer.chat_template = json.loads(Path(path).read_text(encoding="utf-8"))["chat_template"]
        return tokenizer


def harmless(text: str, tokenizer: Any) -> str:
    """`text` with every special token in it broken by a space: users must not be able to write the judge's marks."""
    for token in sorted(tokenizer.get_added_vocab(), key=len, reverse=True):
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


class Judge:
    """Network, tokenizer, head and special tokens together.

    head: ``[..., hidden]`` to ``[..., outputs]``, kept in float32. tokens: where it reads, in order.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, head: nn.Module, tokens: Sequence[str]) -> None:
        self.network: Any = network
        self.tokenizer = tokenizer
        self.head = head.float().eval().to(next(network.parameters()).device)
        self._ids = [int(i) for i in tokenizer.convert_tokens_to_ids(list(tokens))]
        self._tokens = tuple(tokens)

    def to(self, device: str) -> Judge:
        """Move the weights."""
        self.network.to(device)
        self.head.to(device)
        return self

    @property
    def device(self) -> torch.device:
        found: torch.device = self.network.device
        return found

    def see(self, pairs: Tensor) -> Tensor:
        """``[P, tokens, hidden]`` of ``[P, 2, 3, h, w]`` prepared frame pairs; each pair is seen by itself."""
        patches = patchify(pairs.to(self.device))
        sides = [int(side) // PATCH for side in pairs.shape[-2:]]
        grid = torch.tensor([[1, *sides]] * len(pairs), device=self.device)
        seen = self.network.visual(patches.flatten(0, 1).to(self.network.dtype), grid_thw=grid)
        merged: Tensor = getattr(seen, "pooler_output", seen)  # the other output is what goes into the merger
        return merged.view(len(pairs), patches.shape[1] // MERGE**2, -1)

    def write(self, texts: Sequence[str], medium: Medium, visual_tokens: int) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask ``[B, L]`` of user messages that show a picture or video, then say `texts`."""
        mark = f"<|{medium}_pad|>"
        chats = [self._chat(text, medium) for text in texts]
        if any(chat.count(mark) != 1 for chat in chats):
            raise PluginError(f"The chat template must show one {mark} for each {medium}; it is not that of Qwen2-VL.")
        full = [chat.replace(mark, mark * visual_tokens) for chat in chats]
        coded = self.tokenizer(full, padding=True, return_tensors="pt", add_special_tokens=False)
        return coded["input_ids"].to(self.device), coded["attention_mask"].to(self.device)

    def _chat(self, text: str, medium: Medium) -> str:
        content = [{"type": medium}, {"type": "text", "text": text}]
        chat = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return str(chat)

    def read(self, ids: Tensor, mask: Tensor, visual: Tensor, medium: Medium) -> Tensor:
        """``[B, special tokens, outputs]`` float32. visual: ``[B, visual tokens, hidden]``."""
        config = self.network.config
        mark = config.image_token_id if medium == "image" else config.video_token_id
        embedded = self.network.get_input_embeddings()(ids)
        embedded = embedded.masked_scatter((ids == mark)[..., None], visual.to(embedded.dtype))
        positions = torch.arange(ids.shape[1], device=ids.device).expand(3, *ids.shape)
        hidden = self.network.language_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        where = self._places(ids)
        chosen = hidden.gather(1, where[..., None].expand(-1, -1, hidden.shape[-1]))
        read: Tensor = self.head(chosen.float())
        return read

    def _places(self, ids: Tensor) -> Tensor:
        """``[B, special tokens]``: where each stands. Raises `PluginError` unless it does exactly once."""
        hits = torch.stack([ids == token for token in self._ids], dim=1)
        if not bool((hits.sum(2) == 1).all()):
            raise PluginError(f"The prompt template must contain each of {', '.join(self._tokens)} exactly once.")
        return hits.int().argmax(2)
