"""The files of a run folder: read with care, written whole or not at all, one run at a time."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import math
import os
import re
import socket
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from filelock import FileLock, Timeout

from streamt1_plugins.errors import FolderInUseError, InputError, OutputError, StreamT1Error
from streamt1_plugins.runs.way_on import is_command, resume_with

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from filelock import BaseFileLock

log = logging.getLogger("streamt1")

JOURNAL, RECIPE, TREE, SUMMARY = "journal.jsonl", "recipe.yaml", "tree.json", "summary.json"
PAGE, VIDEO = "report.html", "video.mp4"
STATE, STRIPS = "state", "strips"
LOCK, HOLDER = ".lock", ".lock.holder"
PATIENCE = 2.0  # seconds that a claim waits for one that only looks whether the folder is free
MEGABYTE = 1_000_000
LONGEST_NAME = 255  # bytes of a file or folder name on nearly every disk
SHOWN = 3  # files in one message

_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
_PART = re.compile(r"\.[\w.-]+\.(yaml|json|html|mp4|safetensors|webp|holder)\.\d+(-\d+)?\.part")
_number = itertools.count()


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


WAY_ON = "Make room on the disk, then finish the run with: "


@contextmanager
def finishing(problem: str, folder: Path) -> Iterator[None]:
    """As `writing`, at the end of a run in `folder`: where it can be resumed the error has how."""
    try:
        with writing(problem):
            yield
    except OutputError as error:
        if not (folder / STATE).is_dir():
            raise
        raise OutputError(f"{error} {WAY_ON}{resume_with(folder)}") from error


@contextmanager
def warned(problem: str) -> Iterator[None]:
    """Log an `OSError` raised inside, after `problem`: a full disk must not end a run."""
    try:
        yield
    except OSError as error:
        log.warning("%s: %s", problem, error)


def _no_name(folder: Path) -> str | None:
    """Why a folder cannot have this name, None where it can."""
    first = folder.parts[0] if folder.parts else ""
    if "\0" in str(folder):
        return "its name contains a NUL character"
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in folder.parts):
        return f"it has a name of more than {LONGEST_NAME} bytes"
    if first.startswith("~") and not Path(first).exists():
        return f"it starts with {first!r}; write the home folder in full"
    return None


def check_writable(folder: Path) -> None:
    """Raise `OutputError` where `folder` cannot be made or written. Creates nothing."""
    if problem := _no_name(folder):
        raise OutputError(f"The folder {folder} cannot be made: {problem}.")
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except OSError as error:  # a path that is too long
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
    if not nearest.is_dir():
        raise OutputError(f"The folder {folder} cannot be made: {nearest} is a file.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"The folder {folder} cannot be written: no permission in {nearest}.")


def new_folder(parent: Path, name: str) -> Path:
    """A folder in `parent` that nothing else has, made at once: `name`, or `name-2` and so on where it exists."""
    check_writable(parent)
    with writing(f"No new folder can be made in {parent}"):
        for number in itertools.count(1):
            folder = parent / (name if number == 1 else f"{name}-{number}")
            with suppress(FileExistsError):
                folder.mkdir(parents=True)
                break
    return folder


def read_file(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of a run folder.

    Raises `InputError` for a symbolic link, a device or a pipe, for more than `limit` bytes, and for a file that cannot
    be read: a run folder may come from anywhere.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    check_plain(path)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(limit + 1) if size <= limit else b""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    if max(size, len(content)) > limit:
        raise InputError(f"{path} has {size:,} bytes; such a file of a run has at most {limit:,}.")
    return content


def check_plain(path: Path, *, folder: bool = False) -> None:
    """Raise `InputError` where `path` exists and is no regular file, or with `folder` no folder; links are neither."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # reading or writing it reports why
    if stat.S_ISLNK(mode):
        raise InputError(f"{path} is a symbolic link. A run folder holds its own files: replace the link by a copy.")
    if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
        raise InputError(f"{path} is not a {'folder' if folder else 'regular file'}, as in every run folder it is.")


def write_atomically(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one, never a part.

    `durable`: also after a power cut, at the cost of waiting for the disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{next(_number)}.part")
    temporary.unlink(missing_ok=True)  # of a killed process that had the same number
    try:
        with _opened(temporary) as file:
            # Lone surrogates (a prompt typed in another encoding) cannot be written as UTF-8.
            file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:  # a rename is only safe on the disk when its folder is
        flush(path.parent)


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk, safe from a power cut."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left of files they were writing in `folder`; a file being written stays."""
    with suppress(OSError):
        for path in [each for each in folder.iterdir() if _PART.fullmatch(each.name) and _is_regular(each)]:
            with suppress(OSError), path.open("rb+") as file:
                if _mark(file):
                    path.unlink()


def _opened(temporary: Path) -> BinaryIO:
    """A new file, marked as in use; it follows no link."""
    while True:
        file = temporary.open("xb")
        _mark(file)
        if os.fstat(file.fileno()).st_nlink:  # else it was taken for one of a killed process
            return file
        file.close()


def _mark(file: BinaryIO) -> bool:
    """Mark an open file as in use until it is closed; returns False where another process has marked it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _WITHOUT_LOCKS
    return True


def _is_regular(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


@dataclass
class _Holding:
    """The lock on a run folder that this process holds for a run, its `owner`, and how many claims share it."""

    lock: BaseFileLock
    owner: object
    claims: int = 1


class Claim:
    """A run folder reserved for one run of this process until `release`. Claims with the same owner share it.

    The operating system holds the lock, so it ends with the process, however that ends.
    """

    # By folder and process: a forked process has its parent's entries, and not its locks.
    _held: ClassVar[dict[tuple[Path, int], _Holding]] = {}
    _guard: ClassVar[Lock] = Lock()

    kind: ClassVar[str] = "run folder"

    def __init__(self, folder: Path, refused: str | None = None, *, owner: object = None) -> None:
        """Make `folder` and reserve it for the run `owner`. `refused`: for a new run, the file that marks an older one.

        Raises `OutputError` where the folder cannot be made, or holds that file or, for a new run, any other;
        `FolderInUseError` where another run has it, and `InputError` where one of its files is a link or a device.
        """
        check_writable(folder)
        with writing(f"The {self.kind} {folder} cannot be used"):
            folder.mkdir(parents=True, exist_ok=True)
        self._key = (folder.resolve(), os.getpid())
        with self._guard:
            held = self._held.get(self._key)
            is_first = held is None
            if held is None:
                self._held[self._key] = _Holding(_locked(folder, self.kind), owner)
            elif held.owner is owner:
                held.claims += 1
            else:
                raise FolderInUseError(f"Another run of this process is writing to the {self.kind} {folder}. {_ADVICE}")
        try:
            self._check(folder)
            if refused:
                _check_new(folder, refused, is_first=is_first)
        except StreamT1Error:
            self.release()
            raise

    def _check(self, folder: Path) -> None:
        _check_files(folder)

    def release(self) -> None:
        """Give the folder back; the last claim of its owner removes the lock file."""
        with self._guard:
            held = self._held[self._key]
            held.claims -= 1
            if held.claims:
                return
            del self._held[self._key]
            for name in (HOLDER, LOCK):
                with suppress(OSError):  # Windows keeps files that are open
                    (self._key[0] / name).unlink()
            held.lock.release()


class _OtherClaim(Claim):
    """A folder that is no run's, and may hold any files."""

    kind = "folder"

    def _check(self, folder: Path) -> None:
        remove_unfinished(folder)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Reserve a folder that is no run's for what runs inside. Raises `FolderInUseError` where something else has it."""
    claim = _OtherClaim(folder, owner=object())
    try:
        yield
    finally:
        claim.release()


@contextmanager
def alone_with(file: Path, wait: float = 0) -> Iterator[bool]:
    """Whether no other process works on `file`, which need not exist, after so many seconds; inside none can begin."""
    name = file.with_name(f".{file.name}.lock")
    lock = FileLock(name, timeout=wait, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _WITHOUT_LOCKS:
            raise OutputError(f"{name} cannot be written: {error.strerror or error}.") from error
    try:
        yield True
    finally:
        with suppress(OSError):  # Windows keeps files that are open
            name.unlink()
        lock.release()


_ADVICE = "Wait until it ends, end it, or choose another folder."


def _locked(folder: Path, kind: str) -> BaseFileLock:
    """The lock of a folder, held, with the name of this process beside it."""
    check_plain(folder / LOCK)
    lock = FileLock(folder.resolve() / LOCK, timeout=PATIENCE, thread_local=False)
    try:
        lock.acquire()
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": f"{datetime.now(timezone.utc):%F %T} UTC"}
        write_atomically(folder / HOLDER, json.dumps(me))
    except Timeout as error:
        raise FolderInUseError(
            f"Another process is writing to the {kind} {folder}: {_holder(folder)}. {_ADVICE}"
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _WITHOUT_LOCKS:
            lock.release()
            raise OutputError(f"The {kind} {folder} cannot be used: {error.strerror or error}.") from error
        log.warning("%s is on a disk without file locks: no other process may use it meanwhile.", folder)
    return lock


def _holder(folder: Path) -> str:
    """Which process has claimed a folder, from the file that it left there."""
    try:
        found = json.loads(read_file(folder / HOLDER, 1000))
        return f"process {int(found['pid'])} on the host {found['host']!r}, since {found['since']!r}"
    except (InputError, ValueError, KeyError, TypeError):
        return "it left no name"


def _check_new(folder: Path, refused: str, *, is_first: bool) -> None:
    """Raise `OutputError` where a folder holds a run already or, once its first claim is made, anything else."""
    if (folder / refused).exists():
        raise OutputError(f"The folder {folder} already holds a run. Choose another one, or resume that run.{_each()}")
    others = sorted(each.name for each in folder.iterdir() if each.name != STRIPS and each.name[0] != ".")
    if is_first and others:
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        raise OutputError(
            f"The folder {folder} holds other files ({', '.join(others[:SHOWN])}{more}). A run needs a folder of its "
            f"own, new or empty, such as {folder / 'runs' / 'first'}."
        )


def _each() -> str:
    """For a program that calls one wrapped pipeline several times."""
    return "" if is_command() else " For several calls, record_to(..., per_run=True) gives each a folder of its own."


def _check_files(folder: Path) -> None:
    """Raise `InputError` for a link or a device in the place of a file or folder that this package writes."""
    for name in (JOURNAL, RECIPE, TREE, SUMMARY, PAGE, VIDEO, HOLDER):
        check_plain(folder / name)
    for name in (STATE, STRIPS):
        check_plain(folder / name, folder=True)
    for unfinished in (folder, folder / STATE, folder / STRIPS):
        remove_unfinished(unfinished)
