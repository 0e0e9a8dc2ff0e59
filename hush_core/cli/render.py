"""How values look: text that cannot harm a terminal, durations, counts, money, moments, previews."""

from __future__ import annotations

import re
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hush_core.model import (
    COMPLETED,
    FAILED,
    INTERRUPTED,
    NODE_ERROR,
    NODE_OK,
    RUNNING,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: What a terminal would obey or hide instead of showing: control characters, marks that turn the direction of what
#: follows, line separators, and halves of surrogate pairs.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_SHORT_ESCAPES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}

#: Style of each state of a request or a node.
STATUS_STYLES: Final = {
    COMPLETED: "green",
    NODE_OK: "green",
    FAILED: "bold red",
    NODE_ERROR: "bold red",
    RUNNING: "cyan",
    INTERRUPTED: "yellow",
}
QUIET: Final = "bright_black"


def safe(text: object) -> str:
    """Text on one line that a terminal shows as it is; what it would obey is written as an escape (`\\x1b`)."""
    return _UNSAFE.sub(lambda match: _escape(match[0]), str(text))


def safe_lines(text: object) -> list[str]:
    """As `safe`, keeping the lines."""
    return [safe(line) for line in str(text).splitlines()]


def first_line(text: str) -> str:
    """The first line of an error: its kind and message, without the traceback."""
    return safe(text.strip().partition("\n")[0])


def padded(text: str, cells: int) -> str:
    """Text with spaces up to a width; what is wider stays whole."""
    from rich.cells import cell_len

    return text + " " * (cells - cell_len(text))


def _escape(character: str) -> str:
    code = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def duration(ms: float | None) -> str:
    """ "0.042 ms", "4.21 ms", "421 ms", "4.21 s", "4 m 21 s", "4 h 21 m", "4 d 21 h"; empty if not known."""
    if ms is None:
        return ""
    if abs(ms) < 999.5:
        return f"{_three_digits(ms)} ms"
    if abs(ms) < 59_995:
        return f"{_three_digits(ms / 1000)} s"
    seconds = round(ms / 1000)
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60:02d} s"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} m"
    return f"{seconds // 86_400} d {seconds % 86_400 // 3600:02d} h"


def age(start_ns: int | None, now_ns: int) -> str:
    """ "4.21 s…": for how long something has been running; empty if not known."""
    return "" if start_ns is None else f"{duration(max(now_ns - start_ns, 0) / 1e6)}…"


def _three_digits(value: float) -> str:
    """Three significant digits, and no more than three after the point."""
    places = next((places for places, least in ((0, 99.95), (1, 9.995), (2, 0.0995)) if abs(value) >= least), 3)
    return f"{value:.{places}f}"


def count(number: int | None) -> str:
    """ "1,234"; empty if not known."""
    return "" if number is None else f"{number:,}"


def cost(usd: float | None) -> str:
    """ "$1.23", "$0.0042", "$0.0000042": two significant digits at least; empty if not known, which is not "$0"."""
    if usd is None:
        return ""
    if usd == 0:
        return "$0"
    if abs(usd) >= 0.995:
        return f"${usd:,.2f}"
    digits = f"{usd:.2g}"
    plain = f"{float(digits):.12f}".rstrip("0")
    return f"${plain}"


def size(bytes_: int) -> str:
    """ "812 B", "4.2 MB"."""
    value = float(bytes_)
    for unit in ("B", "KB", "MB", "GB"):
        if abs(value) < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def moment(ns: int | None, now_s: float | None = None) -> str:
    """A time of today as "12:03:04", of this year as "31 Jan 12:03", else "2023-01-31"; local; empty if not known."""
    if ns is None:
        return ""
    now = datetime.fromtimestamp(time.time() if now_s is None else now_s)
    try:
        then = datetime.fromtimestamp(ns / 1e9)
    except (OverflowError, ValueError, OSError):
        return "?"
    if then.date() == now.date():
        return then.strftime("%H:%M:%S")
    return then.strftime("%d %b %H:%M") if then.year == now.year else then.strftime("%Y-%m-%d")


def clock(ns: int) -> str:
    """ "12:03:04.123", local."""
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000).strftime("%H:%M:%S") + f".{ns // 1_000_000 % 1000:03d}"
    except (OverflowError, ValueError, OSError):
        return "--:--:--.---"


def exact_moment(ns: int | None) -> str:
    """ "2025-01-31 12:03:04", local; empty if not known."""
    if ns is None:
        return ""
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "?"


def plural(number: int, noun: str) -> str:
    """ "1 node", "2 nodes", "2 deliveries"."""
    many = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else many}"


def preview(value: Any, width: int) -> str:
    """A value as JSON on one line of at most about a width, saying how much it leaves out."""
    text = safe(value if isinstance(value, str) else to_json(value))
    if len(text) <= width:
        return text
    kept = max(width - len(f"… +{len(text):,} characters"), 10)
    return f"{text[:kept]}… +{len(text) - kept:,} characters"


def to_json(value: Any, *, indent: bool = False) -> str:
    """A plain value as JSON text."""
    try:
        text = msgspec.json.encode(value)
    except (OverflowError, UnicodeEncodeError):  # integers beyond 64 bits, halves of surrogate pairs
        import json

        return json.dumps(value, indent=2 if indent else None)
    return (msgspec.json.format(text, indent=2) if indent else text).decode()


def print_json(value: Any, *, indent: bool = True) -> None:
    """Print a plain value as JSON; as plain ASCII where the output cannot take every character."""
    text = to_json(value, indent=indent)
    if (sys.stdout.encoding or "utf-8").lower().replace("-", "") != "utf8":
        import json

        text = json.dumps(json.loads(text), indent=2 if indent else None)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def make_console(*, stderr: bool = False) -> Console:
    """A console that prints what it is given: no markup, no guessing, no wrapping."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(console: Console, text: Text | str, style: str = "") -> None:
    """Print prose: wrapped between words on a terminal, on one line elsewhere."""
    console.print(text, style=style, soft_wrap=not console.is_terminal)
