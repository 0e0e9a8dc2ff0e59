"""Syncs live journal segments to the disk, so that a power cut takes at most the last moments.

A thread of its own in the writer process: an fdatasync may take long, and costs the app nothing when another process
does it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hush_core.journal.format import BELL_AT
from hush_core.system import Files

_Identity = tuple[int, int]  # of a file: its device and inode

_INTERVAL_S: Final = 0.05


class Syncer:
    """Syncs each noted segment once, soon. Within about 50 ms of `note` (and the disk's own time) it survives a
    power cut.

    Whatever goes wrong with one segment, the others are synced as before.

    :param on_fault: called with the descriptor that the disk failed to keep, and why; mostly in its thread. What it
        raises is of no effect. That segment is not tried again: after a failed sync the kernel calls the same pages
        clean, and a second sync would lie.
    """

    def __init__(self, files: Files, directory: Path, on_fault: Callable[[int, OSError], None]) -> None:
        self._files = files
        self._directory = directory
        self._on_fault = on_fault
        self._lock = threading.Lock()
        self._pending: dict[_Identity, tuple[int, int]] = {}  # the writer's descriptor, and our own of the same file
        # Our descriptor, which keeps the inode from being another file's; and what the header said whose segment it is.
        self._failed: dict[_Identity, tuple[int, bytes]] = {}
        self._directory_pending = False
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="hush-syncer", daemon=True)
        self.faults = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sync what is pending, and end."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=5.0)
        for own, _ in self._failed.values():
            _close(own)
        self._failed.clear()

    def note(self, fds: list[int]) -> None:
        """These segments have changed. One that cannot be noted is a fault as if it could not be synced."""
        for fd in fds:
            try:
                self._note(fd)
            except OSError as problem:
                self._say(fd, problem)
        self._wake.set()

    def _note(self, fd: int) -> None:
        with self._lock:
            file = self._files.identity(fd)
            if file not in self._pending and not self._has_failed(file, fd):
                # A descriptor of our own: the writer may close its at any time, and the number may be another file's.
                self._pending[file] = fd, os.dup(fd)

    def _has_failed(self, file: _Identity, fd: int) -> bool:
        """Whether the disk has failed to keep this segment; another one, in a recycled file, is tried again."""
        failed = self._failed.get(file)
        return failed is not None and self._header(fd) == failed[1]

    def _header(self, fd: int) -> bytes:
        """Whose segment it is; nothing if the disk does not give even that."""
        try:
            return self._files.read(fd, BELL_AT, 0)
        except OSError:
            return b""

    def note_directory(self) -> None:
        """Names in the journal directory have changed."""
        self._directory_pending = True
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            stopping = self._stopping  # asked before the sync: what is noted before `stop` is synced
            self._sync_pending()
            if stopping:
                return
            threading.Event().wait(_INTERVAL_S)

    def _sync_pending(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        for file, (fd, own) in pending.items():
            try:
                self._files.sync(own)
            except OSError as problem:
                self._keep_failed(file, own)
                self._say(fd, problem)
            else:
                _close(own)
        if self._directory_pending:
            self._directory_pending = False
            try:
                self._files.sync_directory(self._directory)
            except OSError as problem:
                self._say(-1, problem)

    def _keep_failed(self, file: _Identity, own: int) -> None:
        with self._lock:
            before = self._failed.get(file)
            self._failed[file] = own, self._header(own)
        if before is not None:
            _close(before[0])

    def _say(self, fd: int, problem: OSError) -> None:
        self.faults += 1
        # Whoever is told may find the same disk in its way; this thread must go on, for nobody else syncs.
        with contextlib.suppress(Exception):
            self._on_fault(fd, problem)


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # the descriptor is gone, whatever the file system says of the last write
        os.close(fd)
