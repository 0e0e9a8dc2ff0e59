"""What an HTTP status means for a delivery: the one table that every tracer over HTTP shares.

================  ==============================  ===================================================================
status            is                              why
================  ==============================  ===================================================================
2xx               None: delivered                 whether the backend took all of it, its answer's body says
429, 503          RetryableFlushError             it is too busy; it says, or one second is, the least wait
other 5xx, 408,   RetryableFlushError             it may have been taken, or not: a wait of five seconds at the
425, 423, 1xx                                     least; ids that never change make a second copy harmless
3xx, 401, 402,    ConfigurationFlushError         wrong key or address, or a thing to pay: the same for every
403, 404, 405,                                    request, until somebody acts
407, 410, 421,
426, 451, 501,
505, 511
other 4xx         PermanentFlushError             400, 413, 415, 422, ...: this request is refused, as it is
================  ==============================  ===================================================================
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Final

from hush_core.errors import ConfigurationFlushError, FlushError, PermanentFlushError, RetryableFlushError

_BUSY: Final = frozenset({429, 503})
_AMBIGUOUS: Final = frozenset({408, 423, 425})
_CONFIGURATION: Final = frozenset({401, 402, 403, 404, 405, 407, 410, 421, 426, 451, 501, 505, 511})
#: The least waits where the backend names none. Not nothing: who is too busy now is so in the next instant, too.
_BUSY_WAIT_S: Final = 1.0
_AMBIGUOUS_WAIT_S: Final = 5.0
_BODY_LENGTH_MAX: Final = 500


def error_for_status(
    status: int, *, headers: Mapping[str, str] | None = None, body: str | bytes = ""
) -> FlushError | None:
    """What to raise for an answer with this status, or None for 2xx: `if error := error_for_status(...): raise error`.

    :param headers: of the answer, in any case: Retry-After is a floor for the next attempt, Location is named.
    :param body: of the answer; its beginning becomes part of the error.

    None says that the status is one of success. A backend that takes part of a batch says so in the body, which is the
    tracer's to read. A redirect that the client followed itself is never seen here: it should follow none.
    """
    if 200 <= status < 300:
        return None
    found = {name.lower(): value for name, value in (headers or {}).items()}
    said = _message(status, found, body)
    if status in _CONFIGURATION or 300 <= status < 400:
        return ConfigurationFlushError(f"{said}{_advice(status, found)}")
    if 400 <= status < 500 and status not in _BUSY | _AMBIGUOUS:
        return PermanentFlushError(said)
    wait_s = _BUSY_WAIT_S if status in _BUSY else _AMBIGUOUS_WAIT_S
    return RetryableFlushError(said, retry_after_s=max(retry_after(found) or 0.0, wait_s))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that Retry-After asks for, as a number or as a date; None without one, or with one that is neither.

    A date counts from the answer's own `Date` where there is one: the two clocks may differ.
    """
    found = {name.lower(): value for name, value in headers.items()}
    asked = found.get("retry-after", "").strip()
    if asked.isascii() and asked.replace(".", "", 1).isdigit():
        return float(asked)
    until = _date(asked)
    if until is None:
        return None
    now = _date(found.get("date", "")) or datetime.fromtimestamp(time.time(), timezone.utc)
    return max((until - now).total_seconds(), 0.0)


def _date(text: str) -> datetime | None:
    from email.utils import parsedate_to_datetime  # which brings socket: not for an app that imports the names

    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):  # Python 3.10 raises any of the first three
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=timezone.utc)


def _message(status: int, headers: Mapping[str, str], body: str | bytes) -> str:
    from http import HTTPStatus  # the app may load this module too, and never need the names of all statuses

    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    text = body if isinstance(body, str) else body[: 4 * _BODY_LENGTH_MAX].decode(errors="replace")
    text = " ".join(text[: 4 * _BODY_LENGTH_MAX].split())
    cut = "..." if len(text) > _BODY_LENGTH_MAX else ""
    return f"HTTP {status}{phrase}" + (f": {text[:_BODY_LENGTH_MAX]}{cut}" if text else "")


def _advice(status: int, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400:
        to = headers.get("location")
        return f". It redirects{f' to {to}' if to else ''}: give the tracer the address that answers itself."
    if status in (401, 403):
        return ". The credentials are refused: check the tracer's keys, and what they may do."
    if status in (404, 405, 410, 421):
        return ". The address is wrong, or not that of this service: check the tracer's URL."
    if status == 407:
        return ". A proxy in between wants credentials: check HTTPS_PROXY and HTTP_PROXY."
    return ". It will be the same for every request until somebody acts."
