"""A secure connection: to whom it is made, and that it is bounded in time as a plain one is."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from hush_core import ConfigurationFlushError, RetryableFlushError
from hush_otel.destination import Destination
from hush_otel.post import Answer, post

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Talk = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def answering(connection: socket.socket) -> None:
    heard = b""
    while not heard.endswith(b"spans"):  # the whole request: closing before it is read would be a reset
        heard += connection.recv(65536)
    connection.sendall(OK)


@contextmanager
def serving(talk: Talk) -> Iterator[int]:
    """A server for one connection. Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError), server.accept()[0] as connection:
                talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def over_tls(authority: trustme.CA, talk: Talk, *, name: str = "localhost", client: trustme.CA | None = None) -> Talk:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if client is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        client.configure_trust(context)

    def shaken(connection: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            talk(secure)

    return shaken


def send(port: int, certificate: str | None = None, timeout_s: float = 20.0, **files: str) -> Answer:
    endpoint = f"https://localhost:{port}/v1/traces"
    return post(Destination(endpoint, {}, timeout_s=timeout_s, certificate=certificate, **files), b"spans", {})


def test_a_server_with_a_certificate_that_is_trusted(authority: trustme.CA, certificate: str) -> None:
    with serving(over_tls(authority, answering)) as port:
        assert send(port, certificate) == Answer(200, {"Content-Length": "2"}, b"{}")


def test_a_server_whose_certificate_is_of_nobody_known(authority: trustme.CA) -> None:
    with (
        serving(over_tls(authority, answering)) as port,
        pytest.raises(ConfigurationFlushError, match=f"no secure connection to https://localhost:{port}: .*verify"),
    ):
        send(port)


def test_a_server_whose_certificate_is_for_another_name(authority: trustme.CA, certificate: str) -> None:
    with (
        serving(over_tls(authority, answering, name="elsewhere.example")) as port,
        pytest.raises(ConfigurationFlushError, match="Hostname mismatch"),
    ):
        send(port, certificate)


def test_a_server_that_asks_who_is_there(authority: trustme.CA, certificate: str, tmp_path: Path) -> None:
    mine = authority.issue_cert("client@example.com")
    mine.private_key_pem.write_to_path(str(tmp_path / "client.key"))
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    files = {"client_certificate": str(tmp_path / "client.pem"), "client_key": str(tmp_path / "client.key")}
    with serving(over_tls(authority, answering, client=authority)) as port:
        assert send(port, certificate, **files).status == 200


def test_certificates_that_are_not_there_are_named() -> None:
    with (
        serving(lambda connection: None) as port,
        pytest.raises(ConfigurationFlushError, match=r"missing\.pem.*No such file"),
    ):
        send(port, "missing.pem")


def test_a_server_that_speaks_no_tls() -> None:
    with (
        serving(lambda connection: connection.sendall(OK)) as port,
        pytest.raises(ConfigurationFlushError, match="WRONG_VERSION_NUMBER"),
    ):
        send(port)


def trickling(connection: socket.socket) -> None:
    """A byte now and then, until the other side has enough of it."""
    connection.settimeout(0.05)
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000:
        connection.sendall(bytes([byte]))
        with suppress(TimeoutError):
            if connection.recv(65536) == b"":
                return


@pytest.mark.parametrize("secure", [True, False], ids=["in the answer", "in the handshake"])
def test_a_server_that_trickles_is_given_up_in_time(secure: bool, authority: trustme.CA, certificate: str) -> None:
    # A handshake record that says it is long, so that the client waits for more.
    def shaking(connection: socket.socket) -> None:
        connection.sendall(b"\x16\x03\x03\x40\x00\x02")
        trickling(connection)

    with serving(over_tls(authority, trickling) if secure else shaking) as port:
        began = time.monotonic()
        with pytest.raises(RetryableFlushError, match="timed out"):
            send(port, certificate, timeout_s=0.4)
        assert 0.3 < time.monotonic() - began < 5


def test_a_server_that_reads_nothing_is_given_up_in_time() -> None:
    ended = threading.Event()
    with serving(lambda connection: (ended.wait(10), None)[1]) as port:
        destination = Destination(f"http://127.0.0.1:{port}/v1/traces", {}, timeout_s=0.4)
        began = time.monotonic()
        with pytest.raises(RetryableFlushError, match="timed out"):
            post(destination, b"x" * 50_000_000, {})
        assert 0.3 < time.monotonic() - began < 5
        ended.set()
