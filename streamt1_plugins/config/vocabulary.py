"""Models that know few words: which words of a prompt they do not know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WORD = re.compile(r"[^\W\d_]+")


def unknown_words(prompt: str, vocabulary: Mapping[str, Sequence[str]]) -> str | None:
    """A sentence about the words of a prompt that the model does not know, with those it knows; None without any.

    vocabulary: the words that the model knows, by kind.
    """
    known = {word.casefold() for words in vocabulary.values() for word in words}
    unknown = [word for word in dict.fromkeys(WORD.findall(prompt)) if word.casefold() not in known]
    if not unknown:
        return None
    listed = "; ".join(f"{kind}: {', '.join(words)}" for kind, words in vocabulary.items())
    words = "the word" if len(unknown) == 1 else "the words"
    return f"This model does not know {words} {', '.join(map(repr, unknown))} and cannot show them. It knows {listed}."
