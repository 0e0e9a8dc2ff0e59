"""Exporting requests: one attempt, and what came of it. Loaded by the delivery process alone.

OpenTelemetry's exporters are not used. They take every status below 400 for success and never look at the body, add the
environment's headers to any endpoint, try again by themselves out of sight, and hand on neither status nor Retry-After.
There is no queue, no thread, no global provider and nothing left to do at the exit.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final
from urllib.parse import urlsplit

from hush_core import ConfigError, ConfigurationFlushError, FlushData, PermanentFlushError, error_for_status
from hush_otel.answer import PROTOBUF, judge, read_answer
from hush_otel.config import GRPC, HTTP, Options
from hush_otel.destination import Destination, to_destination
from hush_otel.encoding import encode
from hush_otel.mapping import to_spans
from hush_otel.plain import Value
from hush_otel.resource import to_resource

_AGENT: Final = f"hush-otel/{version('hush-otel')}"
#: Of several requests in one export; one alone is sent whatever its size. A gRPC server takes 4 MiB unless it is told
#: otherwise; over HTTP the usual limits begin at 15 MB.
_BATCH_BYTES_MAX: Final = {HTTP: 8_000_000, GRPC: 4_000_000}
#: Likewise: a backend that writes span by span into a database has to be done with all of them before the timeout.
_BATCH_SPANS_MAX: Final = 2000
_PATH: Final = "/v1/traces"


def export(options: Options, batch: Sequence[FlushData]) -> str | None:
    """Export the spans of these requests in one go. When this returns, the backend has them; a text is what it noted.

    Otherwise it raises one of hush's errors. After a PermanentFlushError for several requests, which one is to blame is
    not known: hush halves them until it is.
    """
    try:
        destination = to_destination(options, os.environ)
    except ConfigError as problem:
        raise ConfigurationFlushError(str(problem)) from problem
    body, spans = _encode(batch, to_resource(options), options.content, _BATCH_BYTES_MAX[destination.protocol])
    if not spans:
        return None  # a request without a node: there is nothing that a backend could take
    if destination.protocol == GRPC:
        from hush_otel.call import call

        reply = call(destination, body, _AGENT)
        note = judge(reply.rejected, reply.message, spans)
    else:
        note = _post(destination, body, spans)
    return note if note is None or len(batch) == 1 else f"{note} (of a batch of {len(batch)} requests)"


def _encode(
    batch: Sequence[FlushData], resource: dict[str, Value], content: bool, batch_bytes_max: int
) -> tuple[bytes, int]:
    """The bytes of the export, and how many spans are in them."""
    if len(batch) > 1 and sum(len(data["nodes"]) for data in batch) > _BATCH_SPANS_MAX:
        raise PermanentFlushError(f"{len(batch)} requests are more than {_BATCH_SPANS_MAX} spans in one export")
    parts: list[bytes] = []
    size = count = 0
    for data in batch:
        try:
            spans = to_spans(data, content=content)
            part = encode(spans, resource) if spans else b""
        except Exception as problem:  # a plugin has made something of it that is no request any more, say
            raise PermanentFlushError(
                f"request {data.get('request_id')} cannot be encoded: {type(problem).__name__}: {problem}"
            ) from problem
        size += len(part)
        if size > batch_bytes_max and len(batch) > 1:
            raise PermanentFlushError(f"{len(batch)} requests are more than {batch_bytes_max} bytes in one export")
        parts.append(part)
        count += len(spans)
    return b"".join(parts), count


def _post(destination: Destination, body: bytes, spans: int) -> str | None:
    from hush_otel.post import post

    headers = {"User-Agent": _AGENT, **destination.headers, "Content-Type": PROTOBUF}
    if destination.compression == "gzip":
        body = gzip.compress(body, mtime=0)  # without the time, so that a second attempt is the same
        headers["Content-Encoding"] = "gzip"
    elif destination.compression == "deflate":
        body = zlib.compress(body)
        headers["Content-Encoding"] = "deflate"
    answer = post(destination, body, headers)
    error = error_for_status(answer.status, headers=answer.headers, body=answer.body)
    if error is not None:
        raise _with_hint(error, destination, answer.status)
    return read_answer(answer.header("content-type"), answer.body, spans)


def _with_hint(error: Exception, destination: Destination, status: int) -> Exception:
    """The commonest of mistakes: an endpoint of all signals in the place of that for traces."""
    parts = urlsplit(destination.endpoint)
    if status not in (404, 405) or parts.path.rstrip("/").endswith(_PATH):
        return error
    meant = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}{_PATH}"
    return ConfigurationFlushError(f"{error} The endpoint is used as it is: is {meant} meant?")
