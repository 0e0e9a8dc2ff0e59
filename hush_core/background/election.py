"""Which process is the writer of a database: the one that holds the lock of a file in the journal directory.

An flock: the system releases it when the process ends, whatever ends it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hush_core.background.doorbell import ring
from hush_core.interrupt import is_interrupt
from hush_core.system import FILES, is_doomed

LOCK: Final = "writer.lock"
STARTED: Final = "writer.started"
#: How long a writer may take to begin before somebody else starts one too. Less than a writer stays when nobody needs
#: it: who meets one that is about to end must be able to start another.
_BEGINS_WITHIN_S: Final = 1.0
#: How long to wait for a lock whose holder does not listen: it is about to begin, or about to end, and a disk that
#: hangs may hold it up.
_PATIENCE_S: Final = 30.0
#: How long until the next look: twice as long each time.
_LOOK_S: Final = 0.02
_LOOK_MAX_S: Final = 0.5


def elect(directory: Path) -> int | None:
    """Become the writer: the descriptor that holds the lock. None if another writer has it and listens, or keeps it for
    longer than anybody waits.
    """
    deadline, look_s = time.monotonic() + _PATIENCE_S, _LOOK_S
    while True:
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_still_elected(directory, fd):
                return fd
        except BlockingIOError:
            if ring(directory) or time.monotonic() > deadline:
                os.close(fd)
                return None
        os.close(fd)
        time.sleep(look_s)
        look_s = min(2 * look_s, _LOOK_MAX_S)


def start_unless_begun(directory: Path, start: Callable[[], int]) -> bool:
    """Start a writer, unless one that another process has just started is about to begin. True if it was started.

    Without it, every process of a server that forks hundreds would start one, and all of them together would keep the
    first from beginning. Where the file that tells cannot be used, or the disk is full, each starts one all the same,
    and all but one give way. Raises OSError if none can be started.

    :param start: gives the id of the process that lives as long as the writer is to run.
    """
    # First this process: it may take a while, or be stopped in the middle, and holds up nobody else. One that listens
    # has begun since this process rang.
    if not _note(directory, os.getpid(), unless=lambda fd: _is_beginning(fd) or ring(directory)):
        return False
    keeper = start()
    _note(directory, keeper, unless=lambda fd: _keeper(fd) != os.getpid())  # it may have begun already
    return True


def has_begun(directory: Path) -> None:
    """A writer listens: if nobody does later, nobody waits for it."""
    with contextlib.suppress(OSError):  # there is none, and nobody has waited
        os.truncate(directory / STARTED, 0)


def _note(directory: Path, keeper: int, *, unless: Callable[[int], bool]) -> bool:
    """Tell others who is about to run a writer, unless what they have been told, in this descriptor, is against it."""
    try:
        fd = FILES.open(directory / STARTED, os.O_RDWR | os.O_CREAT)
        try:
            # Not an flock, which a child that is forked in between would hold for as long as it lives.
            if not FILES.lock(fd) or unless(fd):
                return False
            FILES.write(fd, b"%-20d" % keeper, 0)
        finally:
            FILES.close(fd)
    except OSError as problem:
        if is_interrupt(problem):
            raise
    return True


def _is_beginning(fd: int) -> bool:
    if not 0.0 <= time.time() - os.fstat(fd).st_mtime < _BEGINS_WITHIN_S:
        return False
    keeper = _keeper(fd)
    return keeper > 0 and not is_doomed(keeper)


def _keeper(fd: int) -> int:
    """The process that was noted last; 0 if it has begun, or there was none."""
    noted = FILES.read(fd, 20, 0).strip()
    return int(noted) if noted.isdigit() else 0


def is_still_elected(directory: Path, fd: int) -> bool:
    """Whether the lock is still the one that others meet: who deletes the directory deletes the lock's name with it."""
    try:
        return os.path.samestat(os.stat(directory / LOCK), os.fstat(fd))
    except FileNotFoundError:
        return False
