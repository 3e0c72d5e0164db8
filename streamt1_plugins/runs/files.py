"""Writes the files of a run: whole or not at all, and JSON that every program reads."""

from __future__ import annotations
import json
import logging
import math
import os
import platform
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import TYPE_CHECKING, Any
from streamt1_plugins.errors import OutputError
from streamt1_plugins.api.hookspecs import hookimpl
if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamt1_plugins.api.types import Node
    from streamt1_plugins.api.run import Run


def to_json(data: Any) -> str:
    """JSON as every program reads it: numbers that are not finite become null."""
    return json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def check_writable(folder: Path) -> None:
    """Raise `OutputError` where `folder` cannot be made or written. Creates nothing."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OutputError(f"The folder {folder} cannot be made: {nearest} is a file.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"The folder {folder} cannot be written: no permission in {nearest}.")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
