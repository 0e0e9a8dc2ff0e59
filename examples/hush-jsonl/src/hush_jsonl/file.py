"""Appending lines to a file that several processes share."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import Final

from hush_core import ConfigurationFlushError, RetryableFlushError

#: What nothing but a change of the settings or of the folder mends.
_SOMEBODY_MUST_ACT: Final = frozenset(
    {errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM, errno.EROFS}
)


def append(path: str, lines: bytes) -> None:
    """Append whole lines. When this returns, they are on the disk; when it raises, none is half there.

    Safe for several threads and processes at once. A process that is killed in here can leave a line without an end,
    which the next append ends; what it was delivering is delivered again.
    """
    place = os.path.expanduser(path)
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # One at a time, or a write that the disk cut short could not be taken back without harming another's.
            # If its holder hangs, this waits until hush ends the delivery at its deadline, and tries again later.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _append_locked(descriptor, lines) == 0:
                _sync_folder(os.path.dirname(place) or ".")
        finally:
            os.close(descriptor)  # and with it the lock
    except OSError as problem:
        kind = ConfigurationFlushError if problem.errno in _SOMEBODY_MUST_ACT else RetryableFlushError
        raise kind(f"cannot append to {path}: {problem.strerror}") from problem


def _append_locked(descriptor: int, lines: bytes) -> int:
    """Gives the size that the file had."""
    size = os.fstat(descriptor).st_size
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    whole = b"\n" + lines if torn else lines
    try:
        if os.write(descriptor, whole) < len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)  # hush forgets the request once it counts as delivered: a power cut must not take it
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, size)
        raise
    return size


def _sync_folder(folder: str) -> None:
    """Make sure that the folder names a file that was empty until now, which may have been made just before."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
