"""Appending in the middle of an append: signal handlers, and forks at any instant."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hush_core.background.source import Source
from hush_core.journal import appender
from hush_core.journal.appender import Journal
from hush_core.journal.reader import segments
from hush_core.system import FILES, Files
from tests.journal.conftest import ORIGIN_PAYLOAD, Journals, read_whole, run_in_child, sequences

InChild = Callable[[Callable[[], None]], None]


class Hooked(Files):
    """Calls something right after the n-th of its calls, as a signal handler would be."""

    def __init__(self, inner: Files, n: int, at: Callable[[], None]) -> None:
        self._inner = inner
        self._left = n
        self._at = at

    def is_reached(self) -> bool:
        """Whether it has happened; if not, it never will."""
        reached = self._left <= 0
        self._left = 0
        return reached

    def can_map(self, directory: Path) -> bool:
        return self._inner.can_map(directory)

    def __getattribute__(self, name: str) -> object:
        value = object.__getattribute__(self, name)
        if name.startswith("_") or name == "is_reached" or not callable(value):
            return value

        def hooked(*args: object) -> object:
            result = value(*args)
            self._left -= 1
            if self._left == 0:
                self._at()
            return result

        return hooked


class Drain:
    """Reads a directory's journals as the writer does, moving on from each segment that a later one proves final."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sources: dict[bytes, Source] = {}
        self.records: list[bytes] = []

    def __call__(self) -> None:
        for journal_id, numbers in segments(FILES, self._directory).items():
            if journal_id not in self._sources:
                self._sources[journal_id] = Source(FILES, self._directory, journal_id, numbers, None)
            source = self._sources[journal_id]
            source.learn(numbers)
            while (step := source.step()) is not None:
                self.records += [payload for payload in step.slice.payloads if payload != ORIGIN_PAYLOAD]
                source.advance(step)

    def close(self) -> None:
        for source in self._sources.values():
            source.close()


# -- a signal handler that records ------------------------------------------------------------------------------------


def test_a_signal_handler_may_record_while_a_segment_is_made_or_left(journals: Journals, kind: type[Files]) -> None:
    def record_with_a_handler_at(n: int) -> bool:
        drain = Drain(journals.directory)

        def handler() -> None:
            journal.append(b"%d from the handler" % n)
            drain()

        files = Hooked(kind(), n, handler)
        journal = journals.open(files, power_safe=True)
        expected = [b"%d %d %s" % (n, number, b"x" * 100_000) for number in range(6)]
        for record in expected:
            journal.append(record)
            drain()
        reached = files.is_reached()
        if reached:
            expected.append(b"%d from the handler" % n)
        assert sorted(drain.records) == sorted(expected), f"a handler at call {n} lost or doubled a record"
        assert ORIGIN_PAYLOAD in b"".join(path.read_bytes() for path in journals.segments(of=journal))
        assert journal.dropped == {}
        assert journals.reports == []
        drain.close()
        for path in journals.directory.iterdir():
            path.unlink()
        return reached

    calls = itertools.count(1)
    while record_with_a_handler_at(next(calls)):
        pass
    assert next(calls) > 10


def at_each_instruction(call: Callable[[], None], code: Any, at: Callable[[], None]) -> int:
    """Run a call once for each bytecode instruction of a function in it, with something happening right before that
    one. Returns how many there were."""
    # CPython 3.12 turns instruction events on inside `settrace`, and only if some frame has asked for them by then.
    sys._getframe().f_trace_opcodes = True
    total = 0
    while True:
        seen = 0

        def trace(frame: FrameType, event: str, _: Any, stop: int = total) -> Any:
            nonlocal seen
            if frame.f_code is not code:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                seen += 1
                if seen == stop + 1:
                    at()
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(before)
        if seen <= total:
            return total
        total += 1


def test_a_signal_handler_may_record_at_any_instruction_of_an_append(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"outer")
    handled = 0

    def handler() -> None:
        nonlocal handled
        handled += 1
        journal.append(b"inner")

    count = at_each_instruction(lambda: journal.append(b"outer"), journal.append.__code__, handler)
    assert count > 15
    records = journals.records()
    assert records.count(b"inner") == handled == count
    assert records.count(b"outer") == 1 + count + 1
    found = sequences(journals.segments())
    assert sorted(found) == list(range(journal.first_sequence - 1, journal.first_sequence + len(records)))


def test_signals_that_come_while_the_app_records_lose_and_double_nothing(
    journals: Journals, kind: type[Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "SEGMENT_BYTES", (8192, 8192, 8192))  # so that many come while a segment is left
    journal = journals.open(kind(), max_record_bytes=8192)
    numbers = itertools.count()  # a handler may itself be interrupted by the next signal
    handled: list[int] = []
    depth = 0

    def handler(*_: object) -> None:
        nonlocal depth
        if depth > 20:  # on a busy machine they come faster than they are handled, until the stack ends
            return
        depth += 1
        number = next(numbers)
        journal.append(b"handler %d" % number)
        handled.append(number)
        depth -= 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        sent = 0
        while len(handled) < 300:
            journal.append(b"main %d %s" % (sent, b"x" * 500))
            sent += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert journal.dropped == {}
    records = journals.records()
    by_origin: dict[bytes, list[int]] = {b"main": [], b"handler": []}
    for record in records:
        by_origin[record.split(b" ")[0]].append(int(record.split(b" ")[1]))
    assert {origin: sorted(found) for origin, found in by_origin.items()} == {
        b"main": list(range(sent)),
        b"handler": sorted(handled),
    }


def test_ctrl_c_at_any_instant_leaves_a_journal_that_goes_on(journals: Journals, kind: type[Files]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    n = 0
    while True:
        n += 1
        files = Hooked(kind(), n, interrupt)
        journal = journals.open(files)
        interrupted = 0
        returned = []
        for number in range(6):
            record = b"%d %s" % (number, b"x" * 100_000)
            try:
                journal.append(record)
                returned.append(record)
            except KeyboardInterrupt:
                interrupted += 1
        found = journals.records(of=journal)
        reached = files.is_reached()
        assert interrupted == reached
        assert [record for record in found if record in returned] == returned
        assert journal.dropped == {}
        for path in journals.directory.iterdir():
            path.unlink()
        if not reached:
            break
    assert n > 5


# -- fork -------------------------------------------------------------------------------------------------------------


def test_a_forked_child_records_into_a_journal_of_its_own(
    journals: Journals, kind: type[Files], in_child: InChild
) -> None:
    journal = journals.open(kind())
    journal.append(b"before the fork")

    def child() -> None:
        assert not journal.is_open
        assert journal.is_stored(journal.position())
        for number in range(10):
            journal.append(b"child %d" % number)
        assert journals.records(of=journal) == [b"child %d" % number for number in range(10)]

    in_child(child)
    journal.append(b"after the fork")
    assert journals.records(of=journal) == [b"before the fork", b"after the fork"]
    assert len(journals.segments()) == 2


def test_what_the_parent_dropped_is_not_counted_again_by_its_child(
    journals: Journals, kind: type[Files], in_child: InChild
) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    journal.drop("other")

    def child() -> None:
        assert journal.dropped == {}
        journal.append(b"x")
        assert journal.dropped == {}

    in_child(child)


def test_a_child_that_records_nothing_makes_nothing_and_holds_nothing_open(
    journals: Journals, kind: type[Files], in_child: InChild
) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    held = f"{journals.directory}/"

    def child() -> None:
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the descriptor that listed them
                assert not os.readlink(f"/proc/self/fd/{fd}").startswith(held)

    if sys.platform == "linux":
        in_child(child)
    assert len(journals.segments()) == 1


def test_children_of_children_each_have_their_own(journals: Journals, kind: type[Files], in_child: InChild) -> None:
    journal = journals.open(kind())
    journal.append(b"0")

    def descend(depth: int) -> None:
        journal.append(b"%d" % depth)
        if depth < 4:
            run_in_child(lambda: descend(depth + 1))
            journal.append(b"%d again" % depth)

    in_child(lambda: descend(1))
    assert sorted(journals.records()) == [b"0", b"1", b"1 again", b"2", b"2 again", b"3", b"3 again", b"4"]
    assert len(journals.segments()) == 5


def test_a_fork_while_another_thread_makes_a_segment_leaves_the_child_able_to_record(
    journals: Journals, kind: type[Files], in_child: InChild
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    class Slow(Files):
        def can_map(self, directory: Path) -> bool:
            return kind().can_map(directory)

        def rename(self, old: Path, new: Path) -> None:
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                assert go_on.wait(10)
            super().rename(old, new)

    journal = journals.open(Slow())
    thread = threading.Thread(target=journal.append, args=(b"parent",))
    thread.start()
    assert inside.wait(10)

    def child() -> None:
        journal.append(b"child")
        assert journals.records(of=journal) == [b"child"]

    in_child(child)
    go_on.set()
    thread.join()
    assert journals.records(of=journal) == [b"parent"]


def test_a_fork_at_any_instruction_of_an_append_leaves_the_parents_journal_whole(
    journals: Journals, kind: type[Files]
) -> None:
    """A signal handler may fork; the child then goes on in the middle of the append, and may never write to its
    parent's file."""
    parent = os.getpid()
    journal = journals.open(kind())
    journal.append(b"outer 0")
    statuses = []
    calls = 0

    def handler() -> None:
        pid = os.fork()
        if pid == 0:
            sys.settrace(None)
            journal.append(b"child")
            return
        journal.append(b"parent")  # at the place where the child's copy of the interrupted append would go
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def call() -> None:
        nonlocal calls
        calls += 1
        journal.append(b"outer %d" % calls)
        if os.getpid() != parent:
            os._exit(0)

    count = at_each_instruction(call, journal.append.__code__, handler)
    assert count > 15
    assert statuses == [0] * count
    records = journals.records(of=journal)
    assert records.count(b"parent") == count
    assert sorted(record for record in records if record != b"parent") == sorted(
        b"outer %d" % number for number in range(calls + 1)
    )
    for path in journals.segments():  # the children's: what they went on with is there, readable, once
        if path not in journals.segments(of=journal):
            found = [payload for payload in read_whole(path) if payload != ORIGIN_PAYLOAD]
            assert found[0] == b"child"
            assert len(found) <= 2


def test_a_fork_in_a_thread_leaves_both_sides_complete(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"parent 0")
    failures: list[BaseException] = []

    def fork() -> None:
        try:
            run_in_child(lambda: journal.append(b"child"))
        except BaseException as problem:
            failures.append(problem)

    thread = threading.Thread(target=fork)
    thread.start()
    for number in range(1, 500):
        journal.append(b"parent %d" % number)
    thread.join()
    assert failures == []
    assert journals.records(of=journal) == [b"parent %d" % number for number in range(500)]
    assert len(journals.records()) == 501


def test_a_journal_that_begins_in_the_child_and_in_the_parent_is_two(
    journals: Journals, kind: type[Files], in_child: InChild
) -> None:
    journal: Journal = journals.open(kind())
    in_child(lambda: journal.append(b"child"))
    journal.append(b"parent")
    assert sorted(journals.records()) == [b"child", b"parent"]
    assert journals.records(of=journal) == [b"parent"]
