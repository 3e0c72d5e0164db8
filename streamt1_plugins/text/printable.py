"""Text from elsewhere, made harmless: no escape sequences, no reversed writing, one line where one is expected."""

from __future__ import annotations

import logging
import re

HOSTILE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, those of C1 too; but neither tabs nor line feeds
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of writing
    "\u2028\u2029"  # separators of lines and paragraphs
    "\ud800-\udfff"  # halves of characters, which cannot be encoded
    "\ufff9-\ufffb"  # annotations, which hide text
    "\U000e0000-\U000e007f"  # tags, which nothing shows
    "]"
)
BREAKS = re.compile(r" *[\n\t]\s*")


def printable(text: object) -> str:
    r"""The text with everything that could steer a terminal spelled out, such as ``\x1b``. Line feeds and tabs stay."""
    return HOSTILE.sub(_spelled, str(text).replace("\r\n", "\n"))


def one_line(text: object) -> str:
    """The printable text in one line: line feeds and tabs, with the space around them, become one space."""
    return BREAKS.sub(" ", printable(text)).strip()


def printable_json(text: str) -> str:
    r"""JSON with the same characters as ``\u001b``, so that it means the same."""
    return HOSTILE.sub(_escaped, text)


def _spelled(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


class _OneLine(logging.Filter):
    """Makes a record's message printable, in one line."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = one_line(record.getMessage()), None
        return True


def guard(log: logging.Logger) -> None:
    """Make every message of a logger printable, in one line. Once is enough."""
    if not any(isinstance(each, _OneLine) for each in log.filters):
        log.addFilter(_OneLine())
