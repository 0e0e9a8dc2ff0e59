"""What a backend's answer to an OTLP export says: all taken, some rejected, or that it is no such backend.

A status of success is not enough: an OTLP backend says in the body how many spans it rejected, and a login page, or a
proxy that knows nothing of OTLP, answers 200 as well.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hush_core import ConfigurationFlushError, PermanentFlushError

PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_SAID_MAX: Final = 200


def read_answer(content_type: str, body: bytes, spans: int) -> str | None:
    """What is to be noted of an answer whose status is one of success; None if there is nothing.

    PermanentFlushError if no span was taken, ConfigurationFlushError if who answered is no OTLP backend.
    """
    if not body.strip():
        return None
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/html" or body.lstrip()[:1] == b"<":
        raise ConfigurationFlushError(
            f"The answer is a success and a page ({kind or 'HTML'}: {_excerpt(body)}), which no OTLP backend sends: a "
            "login, perhaps, or another service. Check the tracer's endpoint."
        )
    if kind == PROTOBUF:
        rejected, message = _of_protobuf(body)
    elif kind == _JSON:
        rejected, message = _of_json(body)
    else:
        return f"answered with {kind or 'no content type'}: {_excerpt(body)}"
    return judge(rejected, message, spans)


def judge(rejected: int | None, message: str, spans: int) -> str | None:
    """What a partial success comes to. A part is never sent again: the rest would be there twice."""
    if rejected is None:
        return f"whether all was taken is not known: {message}"
    if rejected <= 0:
        return f"warning: {message}" if message else None
    said = f"{rejected} of {spans} spans rejected" + (f": {message}" if message else "")
    if rejected >= spans:
        raise PermanentFlushError(said)
    return said


def _of_protobuf(body: bytes) -> tuple[int | None, str]:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return None, "the answer is no ExportTraceServiceResponse"
    return partial.rejected_spans, partial.error_message


def _of_json(body: bytes) -> tuple[int | None, str]:
    try:
        decoded: Any = msgspec.json.decode(body)
        partial = (decoded.get("partialSuccess") if isinstance(decoded, dict) else None) or {}
        # JSON writes 64 bits as a text.
        return int(partial.get("rejectedSpans") or 0), str(partial.get("errorMessage") or "")
    except (ValueError, TypeError, AttributeError):
        return None, f"the answer is not what OTLP says: {_excerpt(body)}"


def _excerpt(body: bytes) -> str:
    text = " ".join(body[: 4 * _SAID_MAX].decode(errors="replace").split())
    return text[:_SAID_MAX] + ("..." if len(text) > _SAID_MAX else "")
