"""Any value as one that an attribute can hold: text in UTF-8, a number of 64 bits, JSON for what has a structure.

A backend refuses the whole batch for a text that UTF-8 cannot say, and an SDK drops a value that does not fit, without
a word. Here nothing raises and nothing is dropped: what is not kept as it is says so in its place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final

import msgspec

#: What an attribute holds.
Value = str | bool | int | float | Sequence[str]

#: Characters of one attribute. Backends cut or refuse what is larger: some near 1 MB, in silence.
TEXT_MAX: Final = 1024 * 1024
NAME_MAX: Final = 1024
JSON: Final = "application/json"
TEXT: Final = "text/plain"
_INT64_MAX: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1)
_encode: Final = msgspec.json.Encoder().encode


def to_text(value: object, length_max: int = TEXT_MAX) -> str:
    """A text that UTF-8 can say, at most so long: lone surrogates become escapes, and a cut is visible at its end."""
    text = value if isinstance(value, str) else to_json(value)
    if len(text) > length_max:
        text = f"{text[:length_max]}… [truncated: {len(text)} chars]"
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace").decode()
    return text


def to_json(value: object) -> str:
    """A value as JSON text; of one that JSON cannot say, as much as can be."""
    try:
        return _encode(value).decode()
    except Exception:
        return _odd_json(value)


def _odd_json(value: object) -> str:
    """For what is no plain JSON: a plugin may have put it there."""
    try:
        # In ASCII, where even a lone surrogate is valid JSON.
        return json.dumps(value, default=str)
    except Exception as problem:  # a cycle, a key that is no text, a nesting that no walk gets through
        return json.dumps(f"… [unrecordable {type(value).__name__}: {type(problem).__name__}]")


def to_content(value: object) -> tuple[str, str]:
    """An input or output as text, and its media type: texts as they are, all else as JSON. The text is not cut yet."""
    return (value, TEXT) if isinstance(value, str) else (to_json(value), JSON)


def to_number(value: object) -> int | float | None:
    """A number that an attribute can hold; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if -_INT64_MAX <= value <= _INT64_MAX else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None


def to_count(value: object) -> int | None:
    """A count; None for what is none."""
    number = to_number(value)
    return number if isinstance(number, int) and number >= 0 else None


def to_ns(time: object) -> int | None:
    """An ISO 8601 text as nanoseconds since 1970, which is as far back as OTLP goes; None for anything else."""
    if not isinstance(time, str):
        return None
    try:
        when = datetime.fromisoformat(time[:-1] if time[-1:] == "Z" else time)  # Python 3.10 reads no Z
        if when.tzinfo is not None:
            when = when.astimezone(timezone.utc).replace(tzinfo=None)
        past = when - _EPOCH
        ns = ((past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds) * 1000
    except (ValueError, OverflowError):
        return None
    return ns if 0 <= ns <= _INT64_MAX else None
