"""What the system says of a process: memory and CPU, from /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class CannotSay(Exception):
    """This system does not tell what was asked."""


def rss_bytes(pid: int | str) -> int:
    """Resident memory of a process."""
    return _status_kilobytes(Path(f"/proc/{pid}/status"), "VmRSS:") * 1024


def pss_bytes(pid: int | str) -> int:
    """Resident memory, each shared page divided among those that share it."""
    return _status_kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") * 1024


def _status_kilobytes(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        raise CannotSay(f"no {path} on {sys.platform}") from None
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def cpu_ns(pid: int) -> int:
    """CPU that the live threads of a process have used, in nanoseconds (the ticks of /proc/PID/stat are too coarse)."""
    if sys.platform == "darwin":
        return _cpu_ns_by_ps(pid)
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
    except FileNotFoundError:
        raise CannotSay(f"no /proc/{pid}/task/*/schedstat on {sys.platform}") from None


def _cpu_ns_by_ps(pid: int) -> int:
    """As far as `ps` tells: in hundredths of a second."""
    said = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], stdout=subprocess.PIPE, text=True, check=True).stdout
    minutes, _, seconds = said.strip().rpartition(":")
    hours, _, minutes = minutes.rpartition(":")
    return int((int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)) * 1e9)


def end_process(pid: int, timeout_s: float = 10.0) -> None:
    """End a process that is not a child of this one, and wait until it has."""
    try:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.01)
    except ProcessLookupError:
        return
    raise TimeoutError(f"process {pid} did not end within {timeout_s:g} s")
