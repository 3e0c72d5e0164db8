"""No text from elsewhere keeps a character that could steer a terminal."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamt1_plugins.text.printable import HOSTILE, guard, one_line, printable, printable_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x1b[0m", r"a\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J\x9d0;t\x9c", r"\x9b2J\x9d0;t\x9c"),
        ("over\rwritten\x08\x7f", r"over\rwritten\x08\x7f"),
        ("abc\u202edef\u2066", r"abc\u202edef\u2066"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        ("lone \udc9b", r"lone \udc9b"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("größe 世界 👩‍👩‍👧 שלום\tx\ny", "größe 世界 👩‍👩‍👧 שלום\tx\ny"),
        ("windows\r\nlines", "windows\nlines"),
    ],
)
def test_what_steers_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_nothing_is_left_and_nothing_more_is_changed(text: str) -> None:
    shown = printable(text)
    assert not HOSTILE.search(shown)
    assert printable(shown) == shown
    shown.encode()
    assert "\n" not in one_line(text)


def test_one_line_keeps_the_spaces_within() -> None:
    assert one_line("  a  b \n\n  c\td ") == "a  b c d"


@given(st.recursive(st.text(st.characters()), lambda inner: st.dictionaries(st.text(st.characters()), inner)))
def test_json_means_the_same(data: object) -> None:
    text = json.dumps(data, ensure_ascii=False, indent=2)
    shown = printable_json(text)
    assert json.loads(shown) == json.loads(text)
    assert not HOSTILE.search(shown)


def test_messages_of_a_guarded_logger_are_printable(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("streamt1.tests.printable")
    guard(log)
    guard(log)
    assert len(log.filters) == 1
    log.warning("a %s\nb", "\x1b[31m")
    assert caplog.messages == [r"a \x1b[31m b"]


def test_the_logger_of_the_package_is_guarded(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("streamt1").warning("\x9b1m %d", 3)
    assert caplog.messages == [r"\x9b1m 3"]
