"""Text files and paths as people give them: any Unicode encoding with its mark, a size limit, `~` for home."""

from __future__ import annotations

import codecs
import re
import stat
from pathlib import Path

from streamt1_plugins.errors import InputError

MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
"""Byte order marks at the start of a file, and the encodings that they stand for."""


def user_path(path: str | Path) -> Path:
    """The path with `~` at its start replaced by the home folder. Raises `InputError` for one that no file can have."""
    if "\0" in str(path):
        raise InputError(f"The path {str(path)!r} contains a NUL character, which no path can have.")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        first = Path(path).parts[0]
        raise InputError(f"The path {str(path)!r} starts with {first!r}, which is no home folder here.") from error


def is_file(path: Path) -> bool:
    """Whether there is a regular file; False for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_text(path: Path, what: str, limit: int) -> str:
    """The text of a file of at most `limit` bytes, in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises `InputError`, which starts with `what` (for example "The prompt file"), for anything else.
    """
    where = f"{what} {str(path)!r}"
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        data = _start_of(path, limit + 1) if kind == stat.S_IFREG else b""  # a pipe may never end
    except FileNotFoundError as error:
        raise InputError(f"{where} does not exist.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if kind != stat.S_IFREG:
        found = "a folder" if kind == stat.S_IFDIR else "no regular file (a pipe or a device)"
        raise InputError(f"{where} is {found}. Name a text file.")
    if len(data) > limit:
        raise InputError(f"{where} has more than {limit:,} bytes, the limit.")
    return _decoded(data, where)


def _start_of(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _decoded(data: bytes, where: str) -> str:
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = len(lines(data[: error.start].decode(encoding, "replace")))
        raise InputError(
            f"{where}, line {line} is not {encoding.removesuffix('-sig').upper()}: byte 0x{data[error.start]:02x} "
            f"({error.reason}). Save the file as UTF-8."
        ) from error
    if "\0" in text:
        line = len(lines(text.partition("\0")[0]))
        raise InputError(f"{where}, line {line} contains NUL characters, as UTF-16 without a mark. Save it as UTF-8.")
    return text


def lines(text: str) -> list[str]:
    """The lines of a text; they end with LF, CR LF or CR, and with nothing else."""
    return re.split(r"\r\n|\r|\n", text)
