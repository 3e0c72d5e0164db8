"""Reward models on Qwen2-VL: a head maps the hidden states at special tokens of a prompt template to scores.

These models were trained with positions 0, 1, 2, ... for all tokens, image tokens included, because the transformers
release they used computed three-dimensional positions only for generating text. Newer releases always compute them,
which silently changes every score. So positions are always passed here, and a test compares the results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamt1_backbones.checkpoint import State, check_finite, check_keys
from streamt1_backbones.patches import MERGE, PATCH, patchify
from streamt1_backbones.sources import fetching, find_file, quiet, torch_dtype
from streamt1_plugins.errors import PluginError
from streamt1_plugins.process.imports import deferred

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor, nn

    from streamt1_backbones.sources import DType
else:
    torch = deferred("torch")

EMBEDDING = "model.embed_tokens.weight"
Medium = Literal["image", "video"]


@dataclass(frozen=True)
class Base:
    """The model that a judge was fine-tuned from: only its configuration and tokenizer are read, not its weights.

    reward: the reward's name, for errors.
    """

    reward: str
    model: str
    revision: str | None = None

    def network(self, state: State, dtype: DType, device: str) -> nn.Module:
        """The network with the weights `state` (keys as in the published Qwen2-VL), without the language head.

        Raises `PluginError` with the missing and unexpected keys.
        """
        from transformers import AutoConfig, Qwen2VLModel

        if EMBEDDING not in state:
            raise PluginError(f"The checkpoint of reward {self.reward!r} has no {EMBEDDING!r}.")
        with fetching(self.reward, self.model):
            config = AutoConfig.from_pretrained(self.model, revision=self.revision, trust_remote_code=False)
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
        """The tokenizer with special `tokens`. Raises `PluginError` unless their ids are the last of `rows`."""
        from transformers import AutoTokenizer

        with fetching(self.reward, self.model):
            tokenizer = AutoTokenizer.from_pretrained(
                self.model, revision=self.revision, trust_remote_code=False, padding_side="right"
            )
        tokenizer.add_tokens(list(tokens), special_tokens=True)
        ids = tokenizer.convert_tokens_to_ids(list(tokens))
        expected = list(range(rows - len(tokens), rows))
        if ids != expected:
            raise PluginError(
                f"Reward {self.reward!r}: the special tokens {', '.join(tokens)} have ids {ids}, but the checkpoint "
                f"was trained with {expected}. {self.model!r} is not the tokenizer it was trained with."
            )
        if tokenizer.chat_template is None:  # older repositories have it in a file of its own
            path = find_file(self.reward, self.model, "chat_template.json", self.revision)
            tokenizer.chat_template = json.loads(Path(path).read_text(encoding="utf-8"))["chat_template"]
        return tokenizer


def without_special_tokens(text: str, tokenizer: Any) -> str:
    """`text` with a space inside every special token, so that a user's prompt cannot contain one."""
    for token in sorted(tokenizer.get_added_vocab(), key=len, reverse=True):
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


class Judge:
    """A reward model: network, tokenizer, and a head that reads the hidden states at special tokens.

    head: ``[..., hidden]`` to ``[..., outputs]``, in float32. tokens: the special tokens, in the order of the outputs.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, head: nn.Module, tokens: Sequence[str]) -> None:
        self.network: Any = network
        self.tokenizer = tokenizer
        self.head = head.float().eval().to(next(network.parameters()).device)
        self._ids = [int(i) for i in tokenizer.convert_tokens_to_ids(list(tokens))]
        self._tokens = tuple(tokens)

    def to(self, device: str) -> Judge:
        """Move the weights; returns the same object."""
        self.network.to(device)
        self.head.to(device)
        return self

    @property
    def device(self) -> torch.device:
        found: torch.device = self.network.device
        return found

    def embed(self, pairs: Tensor) -> Tensor:
        """Visual tokens ``[P, tokens, hidden]`` of prepared frame pairs ``[P, 2, 3, h, w]``, one by one."""
        patches = patchify(pairs.to(self.device))
        sides = [int(side) // PATCH for side in pairs.shape[-2:]]
        grid = torch.tensor([[1, *sides]] * len(pairs), device=self.device)
        output = self.network.visual(patches.flatten(0, 1).to(self.network.dtype), grid_thw=grid)
        merged: Tensor = getattr(output, "pooler_output", output)  # the other output is the input of the merger
        return merged.view(len(pairs), patches.shape[1] // MERGE**2, -1)

    def tokenize(self, texts: Sequence[str], medium: Medium, visual_tokens: int) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask ``[B, L]`` of messages: an image or video, then one of `texts`."""
        mark = f"<|{medium}_pad|>"
        chats = [self._chat(text, medium) for text in texts]
        if any(chat.count(mark) != 1 for chat in chats):
            raise PluginError(f"The chat template must have one {mark} for each {medium}, as that of Qwen2-VL has.")
        full = [chat.replace(mark, mark * visual_tokens) for chat in chats]
        coded = self.tokenizer(full, padding=True, return_tensors="pt", add_special_tokens=False)
        return coded["input_ids"].to(self.device), coded["attention_mask"].to(self.device)

    def _chat(self, text: str, medium: Medium) -> str:
        content = [{"type": medium}, {"type": "text", "text": text}]
        chat = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        return str(chat)

    def outputs(self, ids: Tensor, mask: Tensor, visual: Tensor, medium: Medium) -> Tensor:
        """Head outputs ``[B, special tokens, outputs]`` in float32. visual: ``[B, visual tokens, hidden]``."""
        config = self.network.config
        mark = config.image_token_id if medium == "image" else config.video_token_id
        embedded = self.network.get_input_embeddings()(ids)
        embedded = embedded.masked_scatter((ids == mark)[..., None], visual.to(embedded.dtype))
        positions = torch.arange(ids.shape[1], device=ids.device).expand(3, *ids.shape)
        hidden = self.network.language_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        where = self._positions(ids)
        chosen = hidden.gather(1, where[..., None].expand(-1, -1, hidden.shape[-1]))
        found: Tensor = self.head(chosen.float())
        return found

    def _positions(self, ids: Tensor) -> Tensor:
        """Positions ``[B, special tokens]`` of the special tokens. Raises `PluginError` unless each occurs once."""
        hits = torch.stack([ids == token for token in self._ids], dim=1)
        if not bool((hits.sum(2) == 1).all()):
            raise PluginError(f"The prompt template must contain each of {', '.join(self._tokens)} exactly once.")
        return hits.int().argmax(2)
