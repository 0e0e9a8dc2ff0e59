"""What is particular to an operating system, in one place: process identity, allocation, mapping, locks.

The journal and the writer reach the system only through `Files` (an argument of theirs), so that a test can kill the
process at any one of its calls, and a port to another system changes this module alone.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from hush_core.interrupt import is_interrupt

if TYPE_CHECKING:
    import socket

#: File systems whose allocated blocks are certain to back a write. A mapped page that the disk cannot back kills the
#: process with SIGBUS; copy-on-write systems (btrfs, zfs, bcachefs, overlay over them) take new blocks even to
#: overwrite, and network ones can fail late, so everything not listed here is written with write(2) instead.
_CERTAIN_FILESYSTEMS: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs", "ramfs"})

#: Of <sys/prctl.h>.
_PR_SET_PDEATHSIG: Final = 1
#: Where a field is in what follows the name in /proc/PID/stat: proc_pid_stat(5) numbers each three higher.
_STATE, _FLAGS, _START_TICKS, _PENDING_SIGNALS, _EXIT_CODE = 0, 6, 19, 28, 49
#: Of the kernel's <linux/sched.h>: it ends (PF_EXITING); a signal has ended it (PF_SIGNALED).
_IS_ENDING: Final = 0x4 | 0x400
#: SIGKILL's bit: what the kernel makes, for each thread, of a signal that ends a process without a core dump.
_IS_KILLED: Final = 1 << 8


class ProcessIdentity(NamedTuple):
    """Who a process is, for good: a pid alone is reused, and means nothing in another pid namespace or boot."""

    pid: int
    start_ticks: int  #: field 22 of /proc/PID/stat, clock ticks since boot; 0 where the system does not say
    boot_id: bytes  #: 16 bytes of /proc/sys/kernel/random/boot_id; zeros where the system does not say
    pid_namespace: int  #: inode of /proc/PID/ns/pid; 0 where the system does not say


def _stat_of(pid: int) -> list[bytes] | None:
    """What the system says of a process, or None if it is gone (a zombie counts as gone: it will never write again)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STATE] in (b"Z", b"X") else fields


def _start_ticks(pid: int) -> int | None:
    """When a process started, or None if it is gone, as of `_stat_of`."""
    fields = _stat_of(pid)
    return None if fields is None else int(fields[_START_TICKS])


def _boot_id() -> bytes:
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError as problem:
        if is_interrupt(problem):
            raise
        return bytes(16)
    return bytes.fromhex(text.decode().strip().replace("-", ""))


def _pid_namespace() -> int:
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError as problem:
        if is_interrupt(problem):
            raise
        return 0


def process_identity() -> ProcessIdentity:
    """The identity of this process."""
    pid = os.getpid()
    ticks = _start_ticks(pid) if sys.platform == "linux" else 0
    return ProcessIdentity(pid, ticks or 0, _boot_id(), _pid_namespace())


def is_gone(who: ProcessIdentity) -> bool | None:
    """Whether a process has ended; None if this process cannot tell (another pid namespace, no /proc)."""
    if who.boot_id != _boot_id():
        return True
    if not who.start_ticks or who.pid_namespace != _pid_namespace():
        return None
    return _start_ticks(who.pid) != who.start_ticks


def environment_of(who: ProcessIdentity) -> dict[str, str] | None:
    """The variables that a process was started with, not what it has changed since; None where they cannot be seen."""
    try:
        content = Path(f"/proc/{who.pid}/environ").read_bytes()
    except OSError:
        return None
    if is_gone(who) is not False:  # another process may have its number by now
        return None
    pairs = (entry.partition(b"=") for entry in content.split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def is_running(pid: int) -> bool:
    """Whether some process has this id now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat_of(pid) is not None or not os.path.exists("/proc/self/stat")


def is_doomed(pid: int) -> bool:
    """Whether a process is gone, or has been killed: until it gets a processor to die on, it is there all the same.

    A hint, and no proof of an end. One that is dying may be in the middle of a system call, which may still have its
    effect. One that is traced may seem doomed for an instant, and one that a signal with a core dump ends (SIGQUIT,
    SIGSEGV) does not before it takes the signal. Where the system does not say, only one that is gone is doomed.
    """
    if sys.platform != "linux":
        return not is_running(pid)
    try:
        fields = _stat_of(pid)
    except PermissionError:  # somebody else's, where /proc hides those
        return False
    # The signal is pending, then it is taken, and only then does the process end. In between, its exit code alone says
    # so: on recent kernels (6.18 does), and of a process that this one may trace. That of a stopped one is the signal.
    if fields is None:
        return not is_running(pid)
    return bool(
        int(fields[_PENDING_SIGNALS]) & _IS_KILLED
        or int(fields[_FLAGS]) & _IS_ENDING
        or (int(fields[_EXIT_CODE]) and fields[_STATE] not in (b"T", b"t"))
    )


def listener_of(connection: socket.socket) -> int:
    """The process at the other end of a connection to a Unix socket; 0 where the system does not say, or not here."""
    if sys.platform != "linux":
        return 0
    import socket
    import struct

    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def filesystem_of(path: Path) -> str:
    """The type of the file system that holds a path ("ext4"), or "" where the system does not say."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            for line in mounts:
                left, _, right = line.partition(b" - ")
                if left.split(b" ", 3)[2] == wanted:
                    return right.split(b" ", 1)[0].decode()
    except OSError as problem:
        if is_interrupt(problem):
            raise
        return ""
    return ""


class Mapping(Protocol):
    """The part of `mmap.mmap` that the journal uses. `write` is one C call: atomic under the GIL, and it advances."""

    def write(self, data: bytes, /) -> int: ...
    def seek(self, position: int, whence: Literal[0, 1, 2] = 0, /) -> None: ...
    def tell(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int | slice, value: int | bytes, /) -> None: ...


class _StandardStreamsTaken:
    """While it holds, no new descriptor gets the number of a standard stream that the app has closed."""

    def __enter__(self) -> None:
        self._fillers = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
        while self._fillers[-1] <= 2:
            self._fillers.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def __exit__(self, *_: object) -> None:
        for fd in self._fillers:
            os.close(fd)


class Files:
    """Every call that the journal and the writer make to the file system.

    Tests wrap it to kill or fail at any of them.
    """

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """Open a file. Never as descriptor 0, 1 or 2, which an app may have closed.

        Else what the app prints, or a library says on its standard error, would be written into the file.
        """
        fd = -1
        try:
            with _StandardStreamsTaken():
                fd = os.open(path, flags | os.O_CLOEXEC, mode)
            return fd
        except BaseException:  # an interrupt
            if fd >= 0:
                os.close(fd)
            raise

    def make_directory(self, path: Path) -> None:
        """Create a directory and its parents, as far as they are missing, each private to its owner."""
        try:
            path.mkdir(mode=0o700)  # `parents=True` would make the parents as open as the umask allows
        except FileNotFoundError:
            self.make_directory(path.parent)
            self.make_directory(path)
        except FileExistsError:
            # Not `path.is_dir()`: it keeps to itself what is raised in it, an exception of a signal's handler, too.
            if not stat.S_ISDIR(os.stat(path).st_mode):
                raise

    def can_map(self, directory: Path) -> bool:
        """Whether allocated blocks of a file here are certain, so that a mapping cannot end in SIGBUS."""
        return sys.platform == "linux" and filesystem_of(directory) in _CERTAIN_FILESYSTEMS

    def allocate(self, fd: int, size: int) -> None:
        """Give a file its blocks. When this returns, a write within ``size`` cannot fail for want of space."""
        os.posix_fallocate(fd, 0, size)

    def map(self, fd: int, size: int) -> Mapping:
        with _StandardStreamsTaken():  # a mapping keeps a duplicate of the descriptor
            return mmap.mmap(fd, size)

    def map_readonly(self, fd: int, size: int) -> Mapping:
        """A view of bytes that are in the file already; reading them needs no block that the disk may lack."""
        with _StandardStreamsTaken():
            return mmap.mmap(fd, size, prot=mmap.PROT_READ)

    def identity(self, fd: int) -> tuple[int, int]:
        """Which file a descriptor is of. Raises OSError if it is of none."""
        found = os.fstat(fd)
        return found.st_dev, found.st_ino

    def is_deleted(self, fd: int) -> bool:
        """Whether an open file has no name any more: nobody else can open it."""
        return os.fstat(fd).st_nlink == 0

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def write(self, fd: int, data: bytes, offset: int) -> int:
        """One pwrite(2): it may be short, and is not atomic under kill -9."""
        return os.pwrite(fd, data, offset)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def free_bytes(self, directory: Path) -> int:
        """The room that this user has on the disk of a directory."""
        disk = os.statvfs(directory)
        return disk.f_bavail * disk.f_frsize

    def sync(self, fd: int) -> None:
        """When this returns, what was written to the file survives a power cut."""
        os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)

    def sync_directory(self, directory: Path) -> None:
        """When this returns, the names in a directory survive a power cut."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def close(self, fd: int) -> None:
        os.close(fd)

    def list(self, directory: Path) -> list[str]:
        """The names in a directory; none if it does not exist."""
        try:
            return os.listdir(directory)
        except FileNotFoundError:
            return []

    def lock(self, fd: int) -> bool:
        """Take a file's lock for this process, without waiting. False if another process has it.

        A POSIX record lock: a forked child does not inherit it (an flock would be held while any child lives). It is
        released when the process ends, and also when the process closes any descriptor of the file.
        """
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def unlock(self, fd: int) -> None:
        fcntl.lockf(fd, fcntl.LOCK_UN)


FILES: Final = Files()


def python_interpreter() -> str | None:
    """The Python that runs code as this process does; None where there is none.

    `sys.executable` is not always one: a frozen app has itself there, an embedded interpreter its host (uWSGI, say);
    started with a command line for Python, that would be a second app.
    """
    name = os.path.basename(sys.executable or "")
    if name.lower().rstrip("0123456789.") in ("python", "pypy"):
        return sys.executable
    if getattr(sys, "frozen", False):
        return None
    if name.startswith(("python", "pypy")):  # python3-dbg
        return sys.executable
    for name in (f"python{sys.version_info.major}.{sys.version_info.minor}", "python3"):
        found = os.path.join(sys.prefix, "bin", name)
        if os.access(found, os.X_OK):
            return found
    return None


def die_with_parent() -> None:
    """Have this process killed when the thread that started it ends (Linux; nothing happens elsewhere).

    For a process that cannot be relied on to notice by itself. Its children do not inherit it.
    """
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def limit_memory(size: int) -> None:
    """Have allocations fail beyond so many bytes of data, for good (Linux; nothing happens elsewhere)."""
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))


def resident_bytes() -> int:
    """The memory that this process takes up now; where the system does not say so, the most that it ever did."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def watch_process(who: ProcessIdentity) -> int | None:
    """A descriptor that becomes readable when a process ends;

    None where the system offers none, or it is not visible.
    """
    if not hasattr(os, "pidfd_open") or is_gone(who) is not False:
        return None
    try:
        fd = os.pidfd_open(who.pid)
    except OSError:
        return None
    if is_gone(who) is False:  # not a later process of the same pid
        return fd
    os.close(fd)
    return None
