"""Disks of a test's own, mounted where no other process sees them: small, full, read-only. Needs root."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

_CLONE_NEWNS: Final = 0x00020000
_CAP_SYS_ADMIN: Final = 21


def require_mounts() -> None:
    """Skip a test where the system does not let this process mount anything. As root it must, or the test fails."""
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        pytest.skip("mounting a disk of one's own needs Linux")
    capabilities = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff")), 16)
    if not capabilities >> _CAP_SYS_ADMIN & 1:
        pytest.skip("mounting a disk of one's own needs root (CAP_SYS_ADMIN): run the tests as root to try this fault")


def leave_the_mounts_of_others() -> None:
    """Give this process, a child of the test's, a mount table of its own. It goes with the last process in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    _run("mount", "--make-rprivate", "/")


def mount_small_disk(kind: str, folder: Path, size_bytes: int) -> None:
    """A disk of about this size at a folder: in memory ("tmpfs"), or a file system in a file ("ext4")."""
    folder.mkdir()
    if kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "hush-test", str(folder))
        return
    image = folder.with_suffix(".image")
    with image.open("wb") as file:
        file.truncate(size_bytes)
    _run(f"mkfs.{kind}", "-q", str(image))
    _run("mount", "-o", "loop", str(image), str(folder))


def resize(folder: Path, size_bytes: int) -> None:
    """Make a disk in memory larger."""
    _run("mount", "-o", f"remount,size={size_bytes}", str(folder))


def make_read_only(folder: Path) -> None:
    """From now on a folder is part of a read-only file system, also for root."""
    _run("mount", "--bind", str(folder), str(folder))
    _run("mount", "-o", "remount,bind,ro", str(folder))


def make_writable(folder: Path) -> None:
    """Undo `make_read_only`."""
    _run("mount", "-o", "remount,bind,rw", str(folder))


class Filler:
    """A file of somebody else's that takes all the space there is."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "filler"

    def fill(self) -> None:
        """Take the space, to the last byte."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for size in (1 << 20, 1 << 12, 1 << 8, 1):
                while _can_write(fd, size):
                    pass
        finally:
            os.close(fd)

    def free(self) -> None:
        """Give it back."""
        self._path.unlink()


def _can_write(fd: int, size: int) -> bool:
    try:
        return os.write(fd, bytes(size)) == size
    except OSError:
        return False


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
