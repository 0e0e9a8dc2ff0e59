"""Segments made ahead, so that a busy process changes to its next one without making it.

What a fresh segment costs is its pages: on the first write to each, the kernel finds memory, zeroes it and maps it,
about 2 us a page. The writer process, which nobody waits for, pays that ahead by writing zeros; the first touch of such
a page costs a twentieth. Written 64 KB at a time, because the size of a write is the size of the unit in which the page
cache keeps (and, after a sync, protects) the pages: 1 MB units make every write after a sync slow, 4 KB units are as
dear as none. Measured on Linux 6.18 with ext4.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Final

from hush_core.journal.segment import FREE_PREFIX, UNFINISHED_PREFIX
from hush_core.system import Files

POOL_FILES: Final = 3
_WRITE_BYTES: Final = 64 * 1024
#: So many segments must have room for one to be made ahead.
_SPARE: Final = 32
#: A file that has been unfinished for so long belongs to nobody.
_UNFINISHED_S: Final = 60.0


def replenish(files: Files, directory: Path, size: int) -> bool:
    """Make one segment if the pool wants one. True if it did.

    Not on a disk that is short of room: even the attempt would take from the apps what they could still have.
    Raises OSError if the disk refuses it; then the apps make their own.
    """
    if len(_pooled(files, directory)) >= POOL_FILES or not files.can_map(directory):
        return False
    if files.free_bytes(directory) < _SPARE * size:
        return False
    name = f"{FREE_PREFIX}{size}-{secrets.token_hex(8)}"
    unfinished = directory / f"{UNFINISHED_PREFIX}{name}"
    fd = files.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        files.allocate(fd, size)
        zeros = bytes(_WRITE_BYTES)
        for at in range(0, size, _WRITE_BYTES):
            files.write(fd, zeros, at)
        files.rename(unfinished, directory / name)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # it has its name already
            files.unlink(unfinished)
        raise
    finally:
        files.close(fd)
    return True


def drain_pool(files: Files, directory: Path) -> None:
    """Give the pool's disk space back, and that of files whose maker died while making them."""
    long_ago = time.time() - _UNFINISHED_S
    for path in [*_pooled(files, directory), *_named(files, directory, UNFINISHED_PREFIX)]:
        try:
            if path.name.startswith(FREE_PREFIX) or os.stat(path).st_mtime < long_ago:
                files.unlink(path)
        except FileNotFoundError:
            continue  # an app took it in this instant


def _pooled(files: Files, directory: Path) -> list[Path]:
    return _named(files, directory, FREE_PREFIX)


def _named(files: Files, directory: Path, prefix: str) -> list[Path]:
    return [directory / name for name in files.list(directory) if name.startswith(prefix)]
