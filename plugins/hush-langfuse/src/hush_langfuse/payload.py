"""Values as the text that Langfuse keeps of them: whole if they are of a usual size, cut visibly if they are not.

A server may drop a span that is too large, and answer that it took it; so no field is larger than a million bytes. What
is cut are long texts first, and then what long lists and dicts hold last: the structure, and all that is short in it,
stays, and the text is still JSON. Pure; the same value makes the same text everywhere.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

#: Of one field, in UTF-8. Langfuse counts a field as large from here on.
FIELD_BYTES_MAX: Final = 1_000_000
#: Containers within containers; what is deeper is named only. The encoder's own limit is not far above.
_DEPTH_MAX: Final = 400
#: Langfuse is written in JavaScript, whose numbers are exact up to here: a larger one is sent as its digits.
_SAFE_INTEGER: Final = 2**53 - 1


class _Bounds(NamedTuple):
    """What is kept of each text, and of each list or dict."""

    chars: int
    items: int


#: Tried in this order. No text is cut below the length of a reference to media, which would be none any more.
_BOUNDS: Final = (
    _Bounds(FIELD_BYTES_MAX, FIELD_BYTES_MAX),
    _Bounds(200_000, FIELD_BYTES_MAX),
    _Bounds(50_000, 10_000),
    _Bounds(10_000, 2_000),
    _Bounds(2_000, 500),
    _Bounds(500, 100),
    _Bounds(250, 20),
    _Bounds(250, 5),
)


def as_text(value: Any) -> str | None:
    """A value as Langfuse wants inputs and outputs: a text as it is, anything else as JSON; nothing for None."""
    if value is None or isinstance(value, str):
        return None if value is None else _cut_to_bytes(encodable(value))
    return as_json(value)


def as_json(value: Any) -> str:
    """A value as JSON of at most a million bytes."""
    text = ""
    for bounds in _BOUNDS:
        text = json.dumps(_plain(value, bounds), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        if _fits(text):
            return text
    return json.dumps(_cut_to_bytes(text, FIELD_BYTES_MAX // 3), ensure_ascii=False)  # quotes are escaped once more


def shorten(text: str, most: int) -> str:
    """At most the beginning of a text, with a note of how long it was; NULs and lone surrogates are made visible.

    For names and messages. Langfuse keeps some of these in PostgreSQL, whose texts hold no NUL.
    """
    return _cut(encodable(text).replace("\0", "\\x00"), most)


def encodable(text: str) -> str:
    """The text, its lone surrogates written as escapes: UTF-8 has no other way to hold them."""
    if text.isascii():
        return text
    return text.encode(errors="backslashreplace").decode()


# -- within bounds ----------------------------------------------------------------------------------------------------


def _plain(value: Any, bounds: _Bounds, depth: int = 0) -> Any:
    """A copy that JSON, UTF-8 and JavaScript can all hold. One frame a level: the stack is as deep as the value."""
    kind = type(value)
    if kind is str:
        return _cut(encodable(value), bounds.chars)
    if value is None or kind is bool:
        return value
    if kind is float:
        return value if math.isfinite(value) else _not_finite(value)
    if kind is int:
        return value if -_SAFE_INTEGER <= value <= _SAFE_INTEGER else _cut(_digits(value), bounds.chars)
    if isinstance(value, dict):
        if depth == _DEPTH_MAX:
            return _truncated(f"dict below {depth} levels")
        copy = {}
        for key, item in _first(value.items(), bounds.items):
            copy[_cut(encodable(str(key)), bounds.chars)] = _plain(item, bounds, depth + 1)
        if len(value) > bounds.items:
            copy["…"] = _truncated(f"{len(value)} items")
        return copy
    if isinstance(value, list | tuple | set | frozenset):
        if depth == _DEPTH_MAX:
            return _truncated(f"{kind.__name__} below {depth} levels")
        items = []
        for item in _first(value, bounds.items):
            items.append(_plain(item, bounds, depth + 1))
        if len(value) > bounds.items:
            items.append(_truncated(f"{len(value)} items"))
        return items
    if isinstance(value, bytes | bytearray):
        return {"$bytes": _cut(base64.b64encode(value).decode(), bounds.chars)}
    return _cut(encodable(str(value)), bounds.chars)  # nothing that hush makes: a plugin has put it there


def _first(items: Iterable[Any], most: int) -> Iterable[Any]:
    return (item for item, _ in zip(items, range(most), strict=False))


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # more digits than Python likes to write
        return hex(value)


# -- cutting ----------------------------------------------------------------------------------------------------------


def _truncated(what: str) -> str:
    return f"… [truncated: {what}]"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + _truncated(f"{len(text)} chars")


def _cut_to_bytes(text: str, most: int = FIELD_BYTES_MAX) -> str:
    if _fits(text, most):
        return text
    note = _truncated(f"{len(text)} chars")
    return text[:most].encode()[: most - len(note.encode())].decode(errors="ignore") + note


def _fits(text: str, most: int = FIELD_BYTES_MAX) -> bool:
    return len(text) <= most // 4 or (len(text) <= most and len(text.encode()) <= most)
