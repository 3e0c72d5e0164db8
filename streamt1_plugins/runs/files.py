"""The files of a run folder: written whole or not at all, JSON that every program reads, one process at a time."""

from __future__ import annotations

import json
import logging
import math
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from streamt1_plugins.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from filelock import BaseFileLock

log = logging.getLogger("streamt1")

LOCK = ".lock"
STATE = "state"
MEGABYTE = 1_000_000


def to_json(data: Any) -> str:
    """JSON as every program reads it: numbers that are not finite become null."""
    return json.dumps(_finite(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


@contextmanager
def writing(problem: str) -> Iterator[None]:
    """Turn an `OSError` raised inside into an `OutputError` that starts with `problem`."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{problem}: {error.strerror or error}.") from error


WAY_ON = "Make room on the disk, then finish the run with: streamt1 generate --resume "


@contextmanager
def finishing(problem: str, folder: Path) -> Iterator[None]:
    """As `writing`, at the end of a run in `folder`: where it can be resumed the error has the command for that."""
    try:
        with writing(problem):
            yield
    except OutputError as error:
        if not (folder / STATE).is_dir():
            raise
        raise OutputError(f"{error} {WAY_ON}{folder}") from error


@contextmanager
def warned(problem: str) -> Iterator[None]:
    """Log an `OSError` raised inside, after `problem`: a full disk must not end a run."""
    try:
        yield
    except OSError as error:
        log.warning("%s: %s", problem, error)


def check_writable(folder: Path) -> None:
    """Raise `OutputError` where `folder` cannot be made or written. Creates nothing."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise OutputError(f"The folder {folder} cannot be made: {nearest} is a file.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"The folder {folder} cannot be written: no permission in {nearest}.")


class Claim:
    """A run folder reserved for this process until `release`. Claims of one process share the reservation.

    The operating system holds the lock, so it ends with the process, however that ends.
    """

    def __init__(self, folder: Path, refused: str | None = None) -> None:
        """Make `folder` and reserve it. `refused`: a file that it must not hold.

        Raises `OutputError` where the folder cannot be made, holds that file, or is in use by another process.
        """
        check_writable(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock: BaseFileLock = FileLock(folder.resolve() / LOCK, timeout=0, is_singleton=True)
            self._lock.acquire()
        except Timeout as error:
            raise OutputError(
                f"Another process is writing to the run folder {folder}. Wait until it ends, or choose another folder."
            ) from error
        except NotImplementedError:
            log.warning("%s is on a disk without file locks: no other process may use it meanwhile.", folder)
        except OSError as error:
            raise OutputError(f"The run folder {folder} cannot be used: {error.strerror or error}.") from error
        if refused and (folder / refused).exists():
            self.release()
            raise OutputError(f"The folder {folder} already holds a run. Choose another one, or resume that run.")

    def release(self) -> None:
        """Give the folder back; the last claim of this process removes the lock file."""
        if self._lock.lock_counter == 1:
            with suppress(OSError):  # Windows keeps files that are open
                os.unlink(self._lock.lock_file)
        self._lock.release()


def write_atomically(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one, never a part.

    `durable`: also after a power cut, at the cost of waiting for the disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            # Lone surrogates (a prompt typed in another encoding) cannot be written as UTF-8.
            file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable and os.name == "posix":  # a rename is only safe on the disk when its folder is
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
