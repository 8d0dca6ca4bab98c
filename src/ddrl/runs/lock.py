"""One process per run folder."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from ddrl.errors import UsageError

logger = logging.getLogger(__name__)

_TRIES, _PAUSE = 5, 0.02  # seconds


class FolderLock:
    """An exclusive lock that the kernel takes back when the process ends, however it ends.

    Args:
        path: of the lock file; the file stays, since removing it would race with the next process.

    Raises:
        UsageError: on entering, if another process holds it, or the file can't be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(
                f"The run folder {self._path.parent} can't be written: {error.strerror}.",
                hint="set run.folder to a writable folder: run.folder=PATH",
            ) from error
        try:
            self._take()
        except BaseException:
            os.close(self._file)
            raise
        return self

    def _take(self) -> None:
        try:
            _lock(self._file)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                owner = os.pread(self._file, 20, 0).decode("ascii", "replace").strip()
                raise UsageError(
                    f"Another process{f' ({owner})' if owner else ''} is training in "
                    f"{self._path.parent}.",
                    hint="wait for it, stop it, or give this run another run.folder",
                ) from None
            logger.warning("%s can't be locked: %s", self._path.parent, error.strerror)
        with suppress(OSError):  # a courtesy to whom the lock refuses, no more
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"pid {os.getpid()}\n".encode(), 0)

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def _lock(file: int) -> None:
    """Take the lock; a moment is waited, since whoever only looks holds it for one."""
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(path: Path) -> bool | None:
    """Whether a process holds the lock of a folder; None where that can't be told.

    The file is not written, and a process that wants the lock meanwhile gets it.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(file)  # which gives it back
    return False
