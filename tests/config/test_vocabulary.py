"""The words of a prompt that a model does not know."""

from __future__ import annotations

import pytest

from streamt1_plugins.config.vocabulary import unknown_words

WORDS = {"things": ("cat", "Dog"), "other words": ("a", "the", "on")}


@pytest.mark.parametrize("prompt", ["a cat on the dog", "A CAT, on a dog!", "", "12 7"])
def test_known_words_need_no_remark(prompt: str) -> None:
    assert unknown_words(prompt, WORDS) is None


def test_unknown_words_are_listed_once_with_what_is_known() -> None:
    found = unknown_words("a dog on the moon, the moon on Ägir", WORDS)
    assert found == (
        "This model does not know the words 'moon', 'Ägir' and cannot show them. It knows things: cat, Dog; "
        "other words: a, the, on."
    )
