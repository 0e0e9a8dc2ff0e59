"""From a finished request to its line: pure, so that the same request makes the same bytes in every attempt.

A line is the request as hush hands it over, without what is about this delivery and not about the request: the
tracer's name, type and configuration (in which secrets are resolved by now), and the number of the attempt.
"""

from __future__ import annotations

import json
from typing import Final

from hush_core import FlushData, PermanentFlushError

_ABOUT_THE_DELIVERY: Final = frozenset({"tracer_name", "tracer_type", "tracer_config", "attempt"})


def to_line(flush_data: FlushData) -> bytes:
    """One line, its end included: ASCII, so that any character, a lone surrogate too, can be written and read.

    PermanentFlushError for what is no JSON: it will be none the next time.
    """
    request = {name: value for name, value in flush_data.items() if name not in _ABOUT_THE_DELIVERY}
    try:
        return json.dumps(request, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except (RecursionError, TypeError, ValueError) as problem:
        raise PermanentFlushError(f"request {flush_data['request_id']} is not plain JSON: {problem}") from problem
