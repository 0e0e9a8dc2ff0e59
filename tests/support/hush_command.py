"""Runs `hush` as a user does: in a pipe, on a terminal of some width."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from typing import Any

from click.testing import CliRunner, Result

from hush_core.cli import main

COMMAND = [sys.executable, "-c", "from hush_core.cli import main; main()"]
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def without_colours(text: str) -> str:
    """What a terminal shows of what was written to it."""
    return _ESCAPES.sub("", text)


class Hush:
    """Runs `hush` in this process, its output being no terminal."""

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    def output(self, *arguments: str) -> str:
        """What it printed; it must have ended well."""
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.output(*arguments, "--json"))


def on_terminal(*arguments: str, columns: int = 80, environment: dict[str, str] | None = None) -> str:
    """Run `hush` on a terminal of a width; gives what it wrote to it, colours included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    variables |= {"TERM": "xterm-256color", **(environment or {})}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=variables
    )
    os.close(theirs)
    written = b""
    ready = select.poll()  # not `select`, which knows no descriptor above 1023
    ready.register(ours, select.POLLIN)
    while ready.poll(30_000):
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    assert process.wait(30) in (0, 1), written.decode()
    return written.decode().replace("\r\n", "\n")
