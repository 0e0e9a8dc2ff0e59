"""Posting lines to a URL, in one request with one answer: no redirect is followed, nothing is tried again here."""

from __future__ import annotations

import http.client
import socket
import time
from contextlib import suppress
from threading import Timer
from typing import Final
from urllib.parse import urlsplit

from hush_core import RetryableFlushError, error_for_status
from hush_jsonl.config import Options

_EXCERPT_BYTES: Final = 4096  # of what a backend says when it refuses


def post(options: Options, lines: bytes) -> None:
    """POST the lines. Returning means that the backend answered with 2xx; which error an answer is, hush decides.

    A fault on the way (refused, reset, no answer in time) is a RetryableFlushError, chained to what it was.
    """
    assert options.url is not None
    parts = urlsplit(options.url)
    where = f"{parts.scheme}://{parts.netloc}"  # not the rest of it: a query may hold a key
    began = time.monotonic()
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=options.timeout_s)
    try:
        connection.connect()
        left_s = options.timeout_s - (time.monotonic() - began)
        # The timeout of a socket bounds one read, and a server that sends a byte a second makes no end of reads.
        watchdog = Timer(max(left_s, 0.0), _hang_up, [connection.sock])
        watchdog.daemon = True
        watchdog.start()
        try:
            status, headers, body = _exchange(connection, parts.path or "/", parts.query, options, lines)
        finally:
            watchdog.cancel()
    except (OSError, http.client.HTTPException) as problem:
        took_s = time.monotonic() - began
        said = str(problem) or type(problem).__name__
        raise RetryableFlushError(f"no answer from {where} after {took_s:.1f} s: {said}") from problem
    finally:
        connection.close()
    error = error_for_status(status, headers=headers, body=body)
    if error is not None:
        raise error


def _exchange(
    connection: http.client.HTTPConnection, path: str, query: str, options: Options, lines: bytes
) -> tuple[int, dict[str, str], bytes]:
    headers = {"User-Agent": "hush-jsonl", **options.headers, "Content-Type": "application/x-ndjson"}
    # A backend may refuse (with 413, say) before it has read all, and close: its answer is there to be read.
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", f"{path}?{query}" if query else path, lines, headers)
    response = connection.getresponse()
    body = b""
    if not 200 <= response.status < 300:
        with suppress(OSError, http.client.HTTPException):  # the status is known: that is the answer
            body = response.read(_EXCERPT_BYTES)
    return response.status, dict(response.headers), body


def _hang_up(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)  # wakes whoever reads or writes; closing it would not
