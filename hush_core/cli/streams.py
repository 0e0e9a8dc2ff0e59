"""The command line's output streams: what they cannot show is escaped, and one that takes nothing ends the command."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

#: What a write to an output may come to. An error about a file has the file's name, too; such a one is another matter.
_UNWRITABLE: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EBADF, errno.EAGAIN, errno.ENXIO}
)


@contextmanager
def outputs() -> Iterator[None]:
    """While it holds, commands print. A character that the encoding lacks is written as an escape.

    Where the output cannot be written (a full disk), the program ends with a message and exit code 1; where nobody
    reads it any more (`| head`), without a message. What goes to a stream that is closed goes nowhere.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - it stays open until the program ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, where it can still be told that it fails
    except OSError as problem:
        if problem.errno not in _UNWRITABLE or problem.filename is not None:
            raise
        if problem.errno != errno.EPIPE:
            with suppress(OSError):
                sys.stderr.write(f"Error: The output cannot be written: {problem.strerror}.\n")
                sys.stderr.flush()
        _let_go(sys.stdout)
        _let_go(sys.stderr)
        sys.exit(1)


def _let_go(stream: Any) -> None:
    """Send what a broken stream still holds nowhere: the interpreter flushes it when it ends, and would complain."""
    try:
        stream.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
