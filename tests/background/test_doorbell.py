"""The writer's socket: whoever rings wakes it, whoever asks is answered, and nothing that a client says disturbs it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import stat
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import wait_until

from hush_core.background import doorbell
from hush_core.background.doorbell import Doorbell, ask, connect, doorbell_path, hand_in


def echo(request: dict[str, Any]) -> dict[str, Any]:
    if request.get("fail"):
        raise ValueError("no such thing")
    return {"you said": request}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "journal").mkdir()
    return tmp_path / "journal"


@pytest.fixture
def bell(directory: Path) -> Iterator[Doorbell]:
    opened = Doorbell(directory, echo)
    yield opened
    opened.close()


@contextlib.contextmanager
def answering(bell: Doorbell) -> Iterator[None]:
    """As the writer's loop does, in a thread, until the block ends."""
    ended = threading.Event()
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            while not ended.is_set():
                bell.wait(0.01)
        except BaseException as problem:
            failures.append(problem)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        assert failures == []


# -- ringing ----------------------------------------------------------------------------------------------------------


def test_a_ring_ends_the_sleep(bell: Doorbell, directory: Path) -> None:
    ringing = threading.Timer(0.05, lambda: connect(directory, 1.0).close())
    ringing.start()
    began = time.monotonic()
    assert bell.wait(10.0) == (True, [])
    assert time.monotonic() - began < 5
    ringing.join()


def test_without_a_ring_it_sleeps_as_long_as_it_was_told(bell: Doorbell) -> None:
    began = time.monotonic()
    assert bell.wait(0.05) == (False, [])
    assert time.monotonic() - began >= 0.045


def test_a_watched_descriptor_ends_the_sleep_and_is_named(bell: Doorbell) -> None:
    readable, writable = os.pipe()
    bell.watch(readable)
    os.write(writable, b"!")
    assert bell.wait(10.0) == (False, [readable])
    bell.unwatch(readable)
    assert bell.wait(0.0) == (False, [])
    os.close(readable)
    os.close(writable)


def test_nobody_listens_before_it_is_open_and_after_it_is_closed(directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect(directory, 1.0)
    bell = Doorbell(directory, echo)
    connect(directory, 1.0).close()
    bell.close()
    with pytest.raises(FileNotFoundError):
        connect(directory, 1.0)
    bell.open()
    connect(directory, 1.0).close()
    bell.close()


def test_a_dead_writers_socket_is_replaced(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(doorbell_path(directory)))
    with pytest.raises(ConnectionRefusedError):
        connect(directory, 1.0)
    bell = Doorbell(directory, echo)
    connect(directory, 1.0).close()
    bell.close()


def test_only_its_owner_may_ring(bell: Doorbell, directory: Path) -> None:
    assert stat.S_IMODE(os.stat(doorbell_path(directory)).st_mode) == 0o600


def test_who_asks_waits_for_a_busy_writer_as_long_as_it_was_told(bell: Doorbell, directory: Path) -> None:
    with contextlib.ExitStack() as waiting:
        with pytest.raises(BlockingIOError):
            for _ in range(10_000):
                waiting.enter_context(connect(directory, 0.0))
        with pytest.raises(TimeoutError):
            connect(directory, 0.05)
        with answering(bell):
            connect(directory, 20.0).close()


def test_who_rings_never_waits_for_a_busy_writer(bell: Doorbell, directory: Path) -> None:
    rings = []
    try:
        with pytest.raises(BlockingIOError):
            for _ in range(10_000):
                rings.append(connect(directory, 0.0))
    finally:
        for ring in rings:
            ring.close()
    assert len(rings) > 64
    wait_until(lambda: bell.wait(0.0) == (False, []), "all of them to be heard")
    connect(directory, 1.0).close()


@pytest.mark.parametrize("descriptors", [doorbell._DESCRIPTORS, "/none"])
@pytest.mark.parametrize("length", [90, 99, 100, 101, 107, 108, 109, 240])
def test_a_path_of_any_length_can_be_rung_also_where_descriptors_have_no_names(
    tmp_path: Path, length: int, descriptors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "_DESCRIPTORS", descriptors)
    directory = tmp_path
    while len(os.fsencode(doorbell_path(directory))) < length:
        missing = length - len(os.fsencode(doorbell_path(directory))) - 1
        directory = directory / ("d" * max(min(missing, 50), 1))
    directory.mkdir(parents=True, exist_ok=True)
    bell = Doorbell(directory, echo)
    with answering(bell):
        assert ask(directory, {"verb": "x"}, 5.0) == {"you said": {"verb": "x"}}
    bell.close()
    assert not doorbell_path(directory).exists()
    assert [link for link in Path("/tmp").glob("hush-*") if link.is_symlink() and link.readlink() == directory] == []


# -- asking -----------------------------------------------------------------------------------------------------------


def test_each_of_many_clients_at_once_gets_its_own_answer(bell: Doorbell, directory: Path) -> None:
    answers: dict[int, object] = {}

    def client(number: int) -> None:
        answers[number] = ask(directory, {"number": number, "padding": "x" * (number * 500)}, 20.0)["you said"][
            "number"
        ]

    with answering(bell):
        clients = [threading.Thread(target=client, args=(number,)) for number in range(150)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
    assert answers == {number: number for number in range(150)}


def test_a_handler_may_wait_meanwhile_for_others_that_ask_at_the_same_time(directory: Path) -> None:
    def handler(request: dict[str, Any]) -> dict[str, Any]:
        bell.wait(0.01)
        return {"you said": request}

    bell = Doorbell(directory, handler)
    clients = [connect(directory, 5.0) for _ in range(3)]
    bell.wait(1.0)  # they are connected now
    for number, client in enumerate(clients):
        client.sendall(b"%d\n" % number)
    bell.wait(1.0)
    for client in clients:
        assert json.loads(client.recv(1000)) == {"you said": {}}
        client.close()
    bell.close()


def test_what_goes_wrong_is_an_answer_too(bell: Doorbell, directory: Path) -> None:
    with answering(bell):
        assert ask(directory, {"fail": 1}, 5.0) == {"error": "the writer takes one line of JSON: no such thing"}


def test_a_writer_that_does_not_answer_in_time_is_a_timeout(bell: Doorbell, directory: Path) -> None:
    with pytest.raises(TimeoutError):
        ask(directory, {}, 0.05)


def test_a_writer_that_ends_before_it_answers_is_a_lost_connection(bell: Doorbell, directory: Path) -> None:
    failures: list[BaseException] = []

    def client() -> None:
        try:
            ask(directory, {}, 5.0)
        except OSError as problem:
            failures.append(problem)

    asking = threading.Thread(target=client)
    asking.start()
    wait_until(lambda: bell.wait(0.01)[0], "the client to call")
    bell.close()
    asking.join()
    assert isinstance(failures[0], ConnectionError)


def test_a_request_may_come_in_pieces(bell: Doorbell, directory: Path) -> None:
    with answering(bell), connect(directory, 5.0) as connection:
        for piece in (b'{"a"', b": ", b"1}", b"\n"):
            connection.sendall(piece)
        assert json.loads(connection.recv(1000)) == {"you said": {"a": 1}}


# -- clients that say nonsense ----------------------------------------------------------------------------------------

GARBAGE = [
    b"\n",
    b"\0" * 100,
    b"\xff\xfe\xfd\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"{" * 5000 + b"\n",
    b"[" * 200_000 + b"\n",
    b'{"a": ' * 20_000 + b"\n",
    b"[1, 2]\n",
    b"null\n",
    b'"text"\n',
    b"1e999\n",
    b'{"verb": NaN}\n',
    b'{"verb": "x"',
    b"x" * (2 * 1024 * 1024),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: repr(garbage[:12]))
def test_garbage_is_answered_or_ignored_and_the_next_client_is_served(
    bell: Doorbell, directory: Path, garbage: bytes
) -> None:
    with answering(bell):
        # The writer may have heard enough and hung up.
        with connect(directory, 5.0) as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(10_000)
        assert ask(directory, {"verb": "x"}, 5.0) == {"you said": {"verb": "x"}}


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_no_bytes_at_all_disturb_it(bell: Doorbell, directory: Path, said: bytes) -> None:
    with connect(directory, 5.0) as connection:
        connection.sendall(said)
        while bell.wait(0.0)[0]:
            pass
    while bell.wait(0.0)[0]:
        pass
    assert bell._requests == {}


def test_a_client_that_leaves_without_its_answer_disturbs_nothing(bell: Doorbell, directory: Path) -> None:
    for _ in range(20):
        with connect(directory, 5.0) as connection:
            connection.sendall(b"{}\n")
    while bell.wait(0.05)[0]:
        pass
    with answering(bell):
        assert ask(directory, {}, 5.0) == {"you said": {}}


def test_clients_that_hold_the_line_and_say_nothing_keep_nobody_waiting(bell: Doorbell, directory: Path) -> None:
    silent = [connect(directory, 5.0) for _ in range(50)]
    with answering(bell):
        assert ask(directory, {"a": 1}, 5.0) == {"you said": {"a": 1}}
        for each in silent:
            each.close()
        wait_until(lambda: bell._requests == {}, "the silent ones to be let go")


def test_without_a_descriptor_to_spare_it_goes_on_as_soon_as_there_is_one(directory: Path) -> None:
    ready, report = os.pipe()
    server = os.fork()
    if server == 0:
        status = 1
        try:
            bell = Doorbell(directory, echo)
            few = len(os.listdir("/proc/self/fd" if os.path.exists("/proc") else "/dev/fd")) + 4
            resource.setrlimit(resource.RLIMIT_NOFILE, (few, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            os.write(report, b"!")
            answered = threading.Event()
            # Not at the first: who asked that has left, but the question waits in the queue.
            bell._handler = lambda request: (answered.set() or {}) if "last" in request else {}  # type: ignore[func-returns-value]
            while not answered.is_set():
                bell.wait(0.1)
            status = 0
        finally:
            os._exit(status)
    os.read(ready, 1)
    silent = [connect(directory, 5.0) for _ in range(60)]
    with pytest.raises(OSError):
        ask(directory, {"first": 1}, 0.2)
    assert os.waitpid(server, os.WNOHANG) == (0, 0)
    for each in silent:
        each.close()
    ask(directory, {"last": 1}, 10.0)
    assert os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]) == 0
    os.close(ready)
    os.close(report)


def test_it_is_found_again_when_its_name_was_deleted(bell: Doorbell, directory: Path) -> None:
    doorbell_path(directory).unlink()
    with pytest.raises(FileNotFoundError):
        connect(directory, 1.0)
    bell.stay_open()
    with answering(bell):
        assert ask(directory, {"a": 1}, 5.0) == {"you said": {"a": 1}}


def test_the_end_of_one_takes_no_name_from_the_next(bell: Doorbell, directory: Path) -> None:
    doorbell_path(directory).unlink()  # somebody deleted the folder, and a writer began in a new one
    following = Doorbell(directory, echo)
    bell.close()
    with answering(following):
        assert ask(directory, {"a": 1}, 5.0) == {"you said": {"a": 1}}
    following.close()
    assert not doorbell_path(directory).exists()


# -- leaving ----------------------------------------------------------------------------------------------------------


def test_who_leaves_hears_first_what_was_sent(directory: Path) -> None:
    def hear(request: dict[str, Any]) -> None:
        bell.stay_open()  # as the writer does when it looks for journals
        heard.append(request)

    heard: list[dict[str, Any]] = []
    bell = Doorbell(directory, echo)
    large = {"environment": "x" * 100_000}
    assert hand_in(directory, [json.dumps(large).encode() + b"\n"])
    silent, half, asking = (connect(directory, 5.0) for _ in range(3))
    half.sendall(b'{"half')
    asking.sendall(b'{"a": 1}\n')
    bell.leave(hear)
    assert heard == [large, {"a": 1}]
    assert asking.recv(100) == silent.recv(100) == b""  # the next one answers
    assert b"error" in half.recv(100)
    with pytest.raises(FileNotFoundError):
        connect(directory, 1.0)
    for each in (silent, half, asking):
        each.close()


def test_what_was_handed_in_while_it_leaves_is_heard_or_was_not_taken(directory: Path) -> None:
    for _ in range(10):
        heard: list[int] = []

        def hear(request: dict[str, Any], heard: list[int] = heard) -> None:
            heard.append(request["n"])

        bell = Doorbell(directory, hear)
        taken: list[int] = []
        numbers = count()

        def hand_in_all(taken: list[int] = taken, numbers: Iterator[int] = numbers) -> None:
            with contextlib.suppress(OSError):  # it does not listen any more
                while True:
                    number = next(numbers)
                    if hand_in(directory, [b'{"n": %d}\n' % number]):
                        taken.append(number)

        threads = [threading.Thread(target=hand_in_all) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(taken) < 5:
            bell.wait(0.01)
        bell.leave(hear)
        for thread in threads:
            thread.join()
        assert set(taken) <= set(heard)
