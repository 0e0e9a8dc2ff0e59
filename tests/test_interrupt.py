"""Which exceptions are the app's own though they come out of hush: those of its signal handlers and of its threads."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from interrupting import Timeout
from waiting import wait_until

from hush_core.capture.record import encode
from hush_core.interrupt import is_interrupt
from hush_core.model import NODE


def handler(number: int, frame: Any) -> None:
    raise Timeout


def with_names_deleted(number: int, frame: Any) -> None:
    del number, frame
    raise Timeout


def that_gives_up_the_signal(number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Timeout


def that_calls_others(number: int, frame: Any) -> None:
    handler(number, None)


class Guard:
    def method(self, number: int, frame: Any) -> None:
        raise Timeout

    def __call__(self, *args: Any) -> None:
        raise Timeout


def with_an_argument(guard: str, number: int, frame: Any) -> None:
    raise Timeout


HANDLERS: dict[str, Callable[..., None]] = {
    "a function": handler,
    "a function that deletes its arguments": with_names_deleted,
    "a function that gives up the signal": that_gives_up_the_signal,
    "a function that calls others": that_calls_others,
    "a lambda": lambda *_: sys.exit(0),
    "a method": Guard().method,
    "an object": Guard(),
    "a partial": functools.partial(with_an_argument, "guard"),
}


@pytest.fixture
def signalled() -> Iterator[Callable[[Callable[..., None]], None]]:
    """Register a handler for the signal that `Interrupting` raises."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, handler) and None
    signal.signal(signal.SIGUSR1, before)


class Interrupting:
    """An object whose text takes so long that a signal comes meanwhile."""

    def __repr__(self) -> str:
        signal.raise_signal(signal.SIGUSR1)
        return "text"


class Leaving:
    """An object whose own code raises."""

    def __init__(self, raised: BaseException) -> None:
        self._raised = raised

    def __repr__(self) -> str:
        raise self._raised


@pytest.mark.parametrize("which", HANDLERS)
def test_what_a_signals_handler_raises_goes_on_out_of_a_record(
    which: str, signalled: Callable[[Callable[..., None]], None]
) -> None:
    signalled(HANDLERS[which])
    with pytest.raises((Timeout, SystemExit)):
        encode((NODE, "r", Interrupting()))


@pytest.mark.parametrize("raised", [SystemExit(), SystemExit(1), Timeout(), TimeoutError(), GeneratorExit()], ids=repr)
def test_what_an_objects_own_code_raises_stays_in_its_place(raised: BaseException) -> None:
    note = f"… [unrecordable Leaving: {type(raised).__name__}]"
    assert msgspec.msgpack.decode(encode((NODE, "r", Leaving(raised)))) == [NODE, "r", note]


def test_an_object_that_calls_a_handler_itself_is_contained_once_that_is_registered_no_more() -> None:
    class Calling:
        def __repr__(self) -> str:
            handler(10, None)
            return ""

    assert "unrecordable Calling" in msgspec.msgpack.decode(encode((NODE, "r", Calling())))[2]


def test_ctrl_c_goes_on_whoever_raises_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        encode((NODE, "r", Leaving(KeyboardInterrupt())))


class Ended(BaseException):
    """What a thread is ended with, as Dramatiq's time limit does."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("raised", [SystemExit, Timeout, Ended])
def test_what_another_thread_puts_into_one_that_records_goes_on(raised: type[BaseException]) -> None:
    values = [{"text": "x" * 100, "number": number} for number in range(100)]
    recorded: list[int] = []

    def record_for_ever() -> None:
        with contextlib.suppress(raised):
            while True:
                encode((NODE, "r", values, object()))
                recorded.append(1)

    put = 0
    for _ in range(20):
        recorded.clear()
        thread = threading.Thread(target=record_for_ever, daemon=True)
        thread.start()
        wait_until(lambda: bool(recorded), "the first record")
        while thread.is_alive():
            assert put < 30, "it was swallowed"
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(raised))
            put += 1  # now and then CPython keeps it to itself: it came while a weak reference was cleared
            thread.join(1)


def test_an_exception_is_asked_for_nothing_of_its_own() -> None:
    class Hostile(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise SystemExit

    try:
        raise Hostile
    except Hostile as problem:
        assert not is_interrupt(problem)
    assert not is_interrupt(MemoryError())
