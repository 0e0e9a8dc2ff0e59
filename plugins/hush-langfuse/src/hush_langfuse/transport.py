"""HTTP of which a whole delivery has one deadline, and no thread: every read and write gets what is left of the time.

httpx's own timeouts bound one read or write each, and a server that sends a byte a second makes no end of reads. So
connections come from here, through the network backend that httpcore lets one give it. Proxies and certificates are
those of the environment (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE ...), where an app's other HTTP finds them too; no
`.netrc` is read, and no redirect followed. A name server that does not answer is not bounded; hush's own deadline is.
"""

from __future__ import annotations

import gzip
import ssl
import time
import urllib.request
from collections.abc import Iterable
from typing import Any, Final

import httpcore
import httpx

#: Of an answer that is longer, the beginning is read.
_ANSWER_BYTES_MAX: Final = 1_000_000
#: Written at once, so that a peer that reads slowly is noticed.
_WRITE_BYTES: Final = 64 * 1024
#: Langfuse's server closes a connection that was idle for five seconds. Whoever uses it just then gets no answer.
_KEPT_S: Final = 4.0
#: A body that is smaller gains nothing.
_GZIP_BYTES_MIN: Final = 1_000


class Deadline:
    """The time by which everything has to be over."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    def left(self, problem: type[Exception]) -> float:
        """The seconds that are left; raises the problem if there are none."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise problem("the time is up")
        return left


class BoundedTransport(httpx.BaseTransport):
    """Connections to any server, each kept open for the next request. For one thread.

    Raises httpx's errors. An answer is read whole, or to a bound, before it is given.

    :param compressed: the body of a request whose path ends so is compressed.
    """

    def __init__(self, deadline: Deadline, *, compressed: str) -> None:
        self._backend = _Backend(deadline)
        self._compressed = compressed
        self._ssl = httpx.create_ssl_context()
        self._pools: dict[str | None, httpcore.ConnectionPool] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = request.read()
        headers = [(key, value) for key, value in request.headers.raw if key.lower() != b"content-length"]
        if request.url.path.endswith(self._compressed) and len(body) >= _GZIP_BYTES_MIN:
            # Without the time, which gzip writes too: a request that is sent again is the same to the byte.
            body = gzip.compress(body, 6, mtime=0)
            headers.append((b"Content-Encoding", b"gzip"))
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        headers.append((b"Content-Length", str(len(body)).encode()))
        try:
            answer = self._pool(request.url).handle_request(
                httpcore.Request(request.method, url, headers=headers, content=body)
            )
            try:
                content = _beginning(answer.iter_stream())
            finally:
                answer.close()
        except httpcore.TimeoutException as problem:
            raise httpx.TimeoutException(_said(problem), request=request) from problem
        except (httpcore.ConnectError, httpcore.ProxyError) as problem:
            raise httpx.ConnectError(_said(problem), request=request) from problem
        except httpcore.UnsupportedProtocol as problem:
            raise httpx.UnsupportedProtocol(_said(problem), request=request) from problem
        except (httpcore.NetworkError, httpcore.ProtocolError) as problem:
            raise httpx.TransportError(_said(problem), request=request) from problem
        return httpx.Response(answer.status, headers=answer.headers, content=content, request=request)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _pool(self, url: httpx.URL) -> httpcore.ConnectionPool:
        """The connections by way of the proxy that the environment has for such a URL, or of none."""
        proxies = urllib.request.getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
        if proxy is not None and urllib.request.proxy_bypass(url.netloc.decode()):
            proxy = None
        if proxy not in self._pools:
            try:
                self._pools[proxy] = self._made(proxy)
            except (RuntimeError, ValueError) as problem:  # a kind of proxy that is not known, or SOCKS without socksio
                raise httpx.UnsupportedProtocol(f"the proxy of the environment cannot be used: {problem}") from problem
        return self._pools[proxy]

    def _made(self, proxy: str | None) -> httpcore.ConnectionPool:
        more: dict[str, Any] = {
            "ssl_context": self._ssl,
            "network_backend": self._backend,
            "keepalive_expiry": _KEPT_S,
        }
        if proxy is None:
            return httpcore.ConnectionPool(**more)
        found = httpx.Proxy(proxy if "://" in proxy else f"http://{proxy}")
        url = httpcore.URL(
            scheme=found.url.raw_scheme, host=found.url.raw_host, port=found.url.port, target=found.url.raw_path
        )
        kind = httpcore.SOCKSProxy if found.url.scheme.startswith("socks") else httpcore.HTTPProxy
        return kind(proxy_url=url, proxy_auth=found.raw_auth, **more)


def _beginning(parts: Iterable[bytes]) -> bytes:
    content = b""
    for part in parts:
        content += part
        if len(content) >= _ANSWER_BYTES_MAX:
            break
    return content


def _said(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


# -- below HTTP -------------------------------------------------------------------------------------------------------


class _Backend(httpcore.NetworkBackend):
    """Connections that keep to the deadline, whatever timeout they are asked for."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, left, local_address, socket_options), self._deadline)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for at in range(0, len(buffer), _WRITE_BYTES):
            self._inner.write(buffer[at : at + _WRITE_BYTES], self._deadline.left(httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def close(self) -> None:
        self._inner.close()
