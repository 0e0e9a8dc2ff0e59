"""What a tracer prints, and how it crashes: into a log of a bounded size, without the tracer's secrets.

The standard output and error of the process are a pipe that a thread reads, so printing never waits for a disk and
never fills one: beyond a part for each job, what is printed is counted and dropped. The log keeps one older file. What
the process prints in the instant in which it dies is lost with it; the traceback of a crash is not, which
`faulthandler` writes straight to the file.
"""

from __future__ import annotations

import codecs
import contextlib
import faulthandler
import os
import re
import signal
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Final, TextIO

from hush_core.delivery.redaction import Redaction
from hush_core.journal.format import journal_directory
from hush_core.system import FILES

_LOG_BYTES_MAX: Final = 1024 * 1024
#: Of what is printed, how much of each job is kept.
_JOB_BYTES_MAX: Final = 64 * 1024
#: A line that goes on for longer is broken.
_LINE_LENGTH_MAX: Final = 8 * 1024
_NOTE_LENGTH_MAX: Final = 16 * 1024
#: How long the last of what was printed is waited for, when a child of the tracer's still holds the pipe.
_FINISH_S: Final = 1.0
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
#: What could move a terminal's cursor, or make of one line two.
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(9), *range(10, 32), 127)}


def log_path(db_path: Path, tracer_name: str) -> Path:
    """Where the log of a tracer of a database is. A name that is not fit for a file is made so, and stays unique."""
    safe = _UNSAFE.sub("_", tracer_name)[:80]
    if safe != tracer_name:
        safe = f"{safe}-{sha256(tracer_name.encode(errors='surrogatepass')).hexdigest()[:8]}"
    return journal_directory(db_path) / f"delivery-{safe}.log"


class Log:
    """The log file of a tracer: a stamp before each line, mode 0600, bounded by keeping one older file.

    Several processes may write to one: each line is appended whole, and whoever finds the file too long renames it.
    Where it cannot be written, a full disk perhaps, what was to be in it is lost, and nothing else happens.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._identity: tuple[int, int] | None = None

    def write(self, lines: list[str]) -> None:
        """Append lines; they hold no secret any more."""
        stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S')} [{os.getpid()}]"
        text = "".join(f"{stamp} {line.translate(_CONTROLS)}\n" for line in lines)
        with contextlib.suppress(OSError):
            self.reopen()
            os.write(self._fd, text.encode(errors="backslashreplace"))
            if os.fstat(self._fd).st_size > _LOG_BYTES_MAX:
                os.replace(self._path, self._path.with_name(f"{self._path.name}.1"))
                self.reopen()

    def reopen(self) -> None:
        """See that the file of that name is the one that is open: another process may have renamed it.

        Crashes of this process are written to it from then on, and where each thread is, when it gets SIGUSR1.
        """
        if self._identity is not None and _identity(self._path) == self._identity == _identity(self._fd):
            return
        if self._identity is not None and _identity(self._fd) == self._identity:  # else the tracer has closed it
            os.close(self._fd)
        FILES.make_directory(self._path.parent)
        self._fd = FILES.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW)
        self._identity = _identity(self._fd)
        faulthandler.enable(self._fd, all_threads=True)
        faulthandler.register(signal.SIGUSR1, self._fd, all_threads=True)


def _identity(file: Path | int) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Output:
    """The standard output and error of this process, on their way to the log. One per process.

    `redaction` takes the secrets out; whoever learns of secrets sets it before anything is printed that may hold one.
    """

    def __init__(self, log: Log) -> None:
        self.redaction = Redaction()
        self._log = log
        self._lock = threading.Lock()
        self._left = _JOB_BYTES_MAX
        self._cut = 0
        self._is_broken = False  # the line that is being read has lost a part
        self._pending = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._pipe = -1
        self._thread = threading.Thread(target=self._drain, name="hush-output", daemon=True)

    def start(self) -> None:
        """From here on, what this process prints is in the log; what it reads is nothing."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for standard in (0, 1, 2):  # first, so that the pipe gets none of their numbers should one be closed
            os.dup2(null, standard)
        self._pipe, write = os.pipe()
        for standard in (1, 2):
            os.dup2(write, standard)
        for fd in {null, write} - {0, 1, 2}:
            os.close(fd)
        sys.stdout, sys.stderr = _text_stream(1), _text_stream(2)
        with contextlib.suppress(OSError):
            self._log.reopen()
        self._thread.start()

    def begin(self) -> None:
        """A new job: it has a part of its own of what is kept."""
        with self._lock:
            self._say_what_was_cut()
            self._left = _JOB_BYTES_MAX
            with contextlib.suppress(OSError):
                self._log.reopen()  # so that a crash of this job is in the file that has the log's name

    def note(self, text: str) -> None:
        """A message of hush's own about a job, of one line or more."""
        with self._lock:
            self._log.write(self.redaction.beginning(text, _NOTE_LENGTH_MAX).splitlines())

    def finish(self) -> None:
        """Write what is on its way to the log, as far as that does not take long. Nothing is printed after it."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for standard, stream in ((1, sys.stdout), (2, sys.stderr)):
            with contextlib.suppress(Exception):  # the tracer may have put anything in its place
                stream.flush()
            os.dup2(null, standard)  # the pipe ends with its last writer
        if self._thread.is_alive():
            self._thread.join(_FINISH_S)

    def _drain(self) -> None:
        buffer = bytearray(65536)  # one for ever: where the tracer has used up its memory, reading must go on
        while True:
            try:
                count = os.readv(self._pipe, [buffer])
            except OSError:  # the tracer has closed it; printing then fails in the tracer, as it would anywhere
                return
            with self._lock:
                try:
                    if count:
                        self._take(bytes(buffer[:count]))
                    else:
                        self._write_lines(ended=True)
                        self._say_what_was_cut()
                except MemoryError:
                    self._cut += count
                    self._is_broken, self._pending = True, ""
            if not count:
                return

    def _take(self, data: bytes) -> None:
        if self._is_broken and self._left > 0:
            # Up to the end of the line: what comes first may be the rest of a secret, which nobody would know for one.
            broken, newline, data = data.partition(b"\n")
            self._cut += len(broken)
            self._is_broken = not newline
        kept = b"" if self._is_broken else data[: self._left]
        self._left -= len(kept)
        self._pending += self._decoder.decode(kept)
        self._write_lines()
        if len(kept) < len(data):
            self._cut += len(data) - len(kept)
            self._break_line()

    def _write_lines(self, *, ended: bool = False) -> None:
        """Write the whole lines of what is pending; of one too long, all but what may be half a secret."""
        if not ended and "\n" not in self._pending and len(self._pending) < _LINE_LENGTH_MAX:
            return
        *lines, rest = self.redaction(self._pending).split("\n")
        if ended and rest:
            lines.append(rest)
        elif len(rest) > _LINE_LENGTH_MAX + self.redaction.length_max:
            at = len(rest) - self.redaction.length_max
            lines.append(rest[:at])
            rest = rest[at:]
        self._pending = "" if ended else rest
        if lines:
            self._log.write(lines)

    def _break_line(self) -> None:
        """The part is used up: what is pending ends here, without what may be half a secret."""
        if not self._is_broken:
            rest = self.redaction(self._pending)
            rest = rest[: max(len(rest) - self.redaction.length_max, 0)]
            if rest:
                self._log.write([rest])
        self._is_broken = True
        self._pending = ""
        self._decoder.reset()

    def _say_what_was_cut(self) -> None:
        if self._cut:
            self._log.write([f"... {self._cut} bytes more were printed, and are not kept."])
            self._cut = 0


def _text_stream(fd: int) -> TextIO:
    """A stream that passes each line on at once, so that little is lost when the process dies."""
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
