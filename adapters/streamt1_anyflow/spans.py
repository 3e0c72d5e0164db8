"""Several texts in one forward pass: the tokens of each chunk read that of their own scene by cross-attention."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from streamt1_seams import scene_index, shadowed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from streamt1_plugins.api.scenes import Scene


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """How many tokens of the video read a text, and its embeddings by argument, ``[1, text tokens, dim]`` or None."""

    tokens: int
    texts: Mapping[str, Tensor | None]

    @property
    def text_tokens(self) -> int:
        """The length of the text."""
        return next(len(each[0]) for each in self.texts.values() if each is not None)


def cached_scene(scenes: Sequence[Scene], chunk: int, at: int) -> int:
    """The scene whose text `chunk` is cached with when chunk `at` is made: its own, or the last one with `recache`."""
    again = [place for place, scene in enumerate(scenes) if scene.memory == "recache" and chunk < scene.chunk <= at]
    return again[-1] if again else scene_index(scenes, chunk)


def merged(spans: Sequence[Span]) -> list[Span]:
    """The spans, those with the same tensors as the one before joined with it."""
    groups = [list(group) for _, group in groupby(spans, key=lambda span: [id(each) for each in span.texts.values()])]
    return [Span(sum(span.tokens for span in group), group[0].texts) for group in groups]


def joined(spans: Sequence[Span]) -> dict[str, Tensor | None]:
    """The texts of all spans one behind the other, by argument."""
    if len(spans) == 1:
        return dict(spans[0].texts)
    columns = {name: [span.texts[name] for span in spans] for name in spans[0].texts}
    return {
        name: torch.cat([each for each in column if each is not None], dim=1) if column[0] is not None else None
        for name, column in columns.items()
    }


@contextmanager
def reading(transformer: Any, spans: Sequence[Span]) -> Iterator[None]:
    """Forward passes inside this block take `joined` texts, of which every span reads its own."""
    with ExitStack() as stack:
        for block in transformer.blocks if len(spans) > 1 else ():
            inner = block.attn2.processor
            stack.enter_context(shadowed(block.attn2, {"processor": SpanProcessor(inner, spans)}))
        yield


class SpanProcessor:
    """Processor of one cross-attention: that of the model, once for every span."""

    def __init__(self, inner: Any, spans: Sequence[Span]) -> None:
        self._inner = inner
        self._tokens = [span.tokens for span in spans]
        self._text_tokens = [span.text_tokens for span in spans]

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **rest: Any) -> Tensor:
        """Cross-attention output ``[B, tokens, dim]``."""
        tokens = torch.split(hidden_states, self._tokens, dim=1)
        texts = torch.split(encoder_hidden_states, self._text_tokens, dim=1)
        made = [self._inner(attn, part, text, **rest) for part, text in zip(tokens, texts, strict=True)]
        return torch.cat(made, dim=1)
