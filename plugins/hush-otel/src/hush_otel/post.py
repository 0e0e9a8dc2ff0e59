"""One POST, bounded in time from the connection to the end of the answer; nothing is followed or tried again.

A connection of its own each time: one that was kept open is closed by the other side at any moment, and then nobody
knows what has arrived. A timeout of a socket bounds one read, and a server that sends a byte a second makes no end of
reads; so each read and each write gets what is left of the whole time. The lookup of a name alone is bounded by the
system's resolver.

Neither `~/.netrc` nor the proxies of the environment are used: what goes where is what the tracer says.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

from hush_core import ConfigurationFlushError, RetryableFlushError
from hush_otel.destination import Destination

#: After a fault that leaves open whether anything was taken, as after a 500.
_AMBIGUOUS_WAIT_S: Final = 5.0
#: Of a body: a partial success is short, and of an error the beginning is enough.
_BODY_MAX: Final = 64 * 1024
_WRITE_BYTES: Final = 256 * 1024


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """A header by its name in lower case; "" without one."""
        return next((value for key, value in self.headers.items() if key.lower() == name), "")


def post(destination: Destination, body: bytes, headers: Mapping[str, str]) -> Answer:
    """POST the body, and give the answer, whatever it is.

    A fault on the way is a RetryableFlushError, chained to what it was; if it came after the connection, the backend
    may have taken all the same. A certificate that does not fit, or a server without TLS, is a ConfigurationFlushError.
    """
    parts = urlsplit(destination.endpoint)
    where = f"{parts.scheme}://{parts.netloc}"  # not the rest of it: a query may hold a key
    deadline = Deadline(destination.timeout_s)
    wait_s: float | None = None
    try:
        with _connect(destination, deadline) as connected:
            wait_s = _AMBIGUOUS_WAIT_S
            return _exchange(connected, deadline, destination.endpoint, body, headers)
    except (ssl.SSLCertVerificationError, _NotTLS) as problem:
        raise ConfigurationFlushError(f"no secure connection to {where}: {problem}") from problem
    except UnicodeError as problem:  # a host name that none can be
        raise ConfigurationFlushError(f"no connection to {where}: {problem}") from problem
    except (OSError, http.client.HTTPException) as problem:
        said = str(problem) or type(problem).__name__
        raise RetryableFlushError(
            f"no answer from {where} after {deadline.passed_s:.1f} s: {said}", retry_after_s=wait_s
        ) from problem


class Deadline:
    """A time by which all has to be done."""

    def __init__(self, seconds: float) -> None:
        self._began = time.monotonic()
        self._seconds = seconds

    @property
    def passed_s(self) -> float:
        return time.monotonic() - self._began

    def left_s(self) -> float:
        """What is left, above zero; TimeoutError when nothing is."""
        left = self._seconds - self.passed_s
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class _NotTLS(Exception):
    """The other side does not speak it, or not as it has to."""


# -- connecting -------------------------------------------------------------------------------------------------------


def _connect(destination: Destination, deadline: Deadline) -> socket.socket:
    """A connection, with TLS for https."""
    parts = urlsplit(destination.endpoint)
    host, secure = parts.hostname or "", parts.scheme == "https"
    connected = _reach(host, parts.port or (443 if secure else 80), deadline)
    if not secure:
        return connected
    try:
        connected.settimeout(deadline.left_s())  # of the whole handshake
        return _context(destination).wrap_socket(connected, server_hostname=host)
    except ssl.SSLCertVerificationError:
        connected.close()
        raise
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        connected.close()
        raise
    except ssl.SSLError as problem:
        connected.close()
        raise _NotTLS(str(problem)) from problem
    except BaseException:
        connected.close()
        raise


def _reach(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first of the host's addresses that answers."""
    problem: OSError | None = None
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            connected = socket.create_connection((str(address[0]), port), deadline.left_s())
        except OSError as refused:
            problem = refused
            continue
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # headers and body are two writes
        return connected
    raise problem or OSError("the host has no address")


def _context(destination: Destination) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=destination.certificate)
        if destination.client_certificate is not None:
            context.load_cert_chain(destination.client_certificate, destination.client_key)
    except (OSError, ssl.SSLError) as problem:
        named = [destination.certificate, destination.client_certificate, destination.client_key]
        files = ", ".join(each for each in named if each)
        raise _NotTLS(f"the certificates ({files}) cannot be loaded: {problem}") from problem
    return context


# -- the exchange -----------------------------------------------------------------------------------------------------


class _Bounded:
    """A connected socket as `http.client` uses one, with every read and write bounded by the deadline."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._connected = connected
        self._deadline = deadline
        self.has_ended = False  #: whether the other side has said all that it will

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self.wait()
            rest = rest[self._connected.send(rest[:_WRITE_BYTES]) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReads(self._connected.makefile("rb", buffering=0), self))

    def close(self) -> None:
        """The connection is closed by who made it, when the answer is read."""

    def wait(self) -> None:
        """Bound what comes next by what is left."""
        self._connected.settimeout(self._deadline.left_s())


class _BoundedReads(io.RawIOBase):
    def __init__(self, raw: Any, bounded: _Bounded) -> None:
        self._raw = raw
        self._bounded = bounded

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._bounded.wait()
        size = cast(int, self._raw.readinto(buffer))
        self._bounded.has_ended = size == 0
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


def _exchange(
    connected: socket.socket, deadline: Deadline, url: str, body: bytes, headers: Mapping[str, str]
) -> Answer:
    parts = urlsplit(url)
    usual = 443 if parts.scheme == "https" else 80
    # With its port, or it would be looked for in the host: an IPv6 address is full of colons.
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or usual)
    connection.default_port = usual  # which Host does not name
    bounded = _Bounded(connected, deadline)
    connection.sock = cast(Any, bounded)
    path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    # A backend may refuse (with 413, say) before it has read all, and close: its answer is there to be read.
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", path, body, dict(headers))
    response = connection.getresponse()
    if bounded.has_ended:  # http.client takes the end for that of the headers
        raise http.client.HTTPException("the answer ends within its headers")
    answer = Answer(response.status, dict(response.headers.items()), b"")
    try:
        content = response.read(_BODY_MAX)
        if response.length and len(content) < _BODY_MAX:  # http.client does not mind an end before the end
            raise http.client.IncompleteRead(content, response.length)
        return answer._replace(body=content)
    except (OSError, http.client.HTTPException):
        if 200 <= answer.status < 300:
            raise  # whether all was taken stood in what did not come
        return answer  # the status is known: that is the answer
    finally:
        response.close()
