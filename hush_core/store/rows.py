"""From a record as it was captured to the values of a row: times, JSON text, numbers.

What a caller passed may be of any type, so nothing here refuses a record: a value that does not fit its column is kept
as JSON in the node's metadata under `hush.<field>`, and the column is NULL.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timezone
from typing import Any, Final

import msgspec

from hush_core.capture.walk import unused_key

_encode = msgspec.json.Encoder().encode
_INT64_MAX: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_from_iso = datetime.fromisoformat


def to_ns(value: object) -> int | None:
    """A time as nanoseconds since the epoch, or None if it is not one, or one that 64 bits cannot hold (after 2262).

    Takes an int (nanoseconds), a float (seconds), a datetime, an ISO 8601 string. A time with no zone is local time.
    """
    if type(value) is str:
        try:
            past = _from_iso(value) - _EPOCH
        except (ValueError, TypeError):
            return _slow_ns(value)
        ns = ((past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds) * 1000
        return ns if -_INT64_MAX <= ns <= _INT64_MAX else None
    return _slow_ns(value)


def _slow_ns(value: object) -> int | None:
    try:
        if isinstance(value, int):
            return integer(value) if not isinstance(value, bool) else None
        if isinstance(value, float):
            return integer(int(value * 1e9))
        when = _parse(value) if isinstance(value, str) else value
        if isinstance(when, datetime):
            past = (when if when.tzinfo is not None else when.astimezone()) - _EPOCH
            return integer(((past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds) * 1000)
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _parse(text: str) -> datetime:
    # Python 3.10 reads neither a trailing Z nor fractions of other than 3 or 6 digits; msgspec reads RFC 3339 whole.
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return msgspec.convert(text.strip().replace(" ", "T", 1), datetime)


def to_json(value: object) -> str | None:
    """Any decoded value as JSON text that SQLite's functions can read; None stays None."""
    if value is None:
        return None
    try:
        written = _encode(value)
        if _number_as_key(written) is not None and _has_other_keys(value):  # 1 beside "1" would be one key twice
            return to_faithful_json(value)
    except (TypeError, ValueError):
        return to_faithful_json(value)
    except RecursionError:  # nested deeper than Python can walk
        written = _encode(value)
    return written.decode()


#: A key that looks like a number or a time: all that this encoder takes for keys, but text.
_number_as_key: Final = re.compile(rb'"-?[0-9][^"]*":').search


def _has_other_keys(value: object) -> bool:
    """Whether a dict in a value has a key that is no text."""
    if isinstance(value, dict):
        return any(type(key) is not str for key in value) or any(map(_has_other_keys, value.values()))
    return isinstance(value, (list, tuple)) and any(map(_has_other_keys, value))


def to_faithful_json(value: object) -> str | None:
    """As `to_json`, for values that may hold what JSON cannot say: bytes, NaN and infinities are kept visible.

    msgspec alone writes NaN as null and bytes as bare base64, which nobody could tell from a null and a string.
    """
    if value is None:
        return None
    try:
        return _encode(_plain(value)).decode()
    except RecursionError:  # nested deeper than Python can walk; what the app's encoder could walk, this one can
        return _encode(value).decode()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": bytes(value)}
    if isinstance(value, dict):
        return _plain_dict(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return str(value)


def _plain_dict(value: dict[Any, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, item in value.items():
        name = _key(key)
        plain[unused_key(name, key, plain) if name in plain else name] = _plain(item)
    return plain


def _key(key: object) -> str:
    plain = _plain(key)
    return plain if isinstance(plain, str) else _encode(plain).decode()


def may_hold_odd_values(payload: bytes) -> bool:
    """Whether a record's msgpack may hold bytes, NaN or an infinity: the bytes that begin them are in it.

    Searches for single bytes, a hundredth of what a walk costs. Text and numbers can hold the same bytes; then the walk
    is taken for nothing.
    """
    if 0xC4 in payload or 0xC5 in payload or 0xC6 in payload:  # bin 8, 16, 32
        return True
    return (0x7F in payload or 0xFF in payload) and _not_finite(payload) is not None


#: A float 64 whose first byte is that of NaN or an infinity.
_not_finite: Final = re.compile(rb"\xcb[\x7f\xff]").search


def integer(value: object) -> int | None:
    """A count as a column holds it, or None if it is not one."""
    if isinstance(value, bool) or value is None:
        return int(value) if value is not None else None
    if isinstance(value, int):
        return value if abs(value) <= _INT64_MAX else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _INT64_MAX else None
    return None


def real(value: object) -> float | None:
    """A measure as a column holds it, or None if it is not one."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):  # a Decimal is recorded as its digits
        try:
            measure = float(value)
        except (ValueError, OverflowError):
            return None
        return measure if math.isfinite(measure) else None
    return None


def text(value: object) -> str | None:
    """A name as a column holds it."""
    if value is None or isinstance(value, str):
        return value
    return to_json(value) if isinstance(value, (dict, list, bytes)) else str(value)
