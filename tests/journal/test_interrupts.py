"""The app's signal handlers raise in the middle of an append: what they raise goes on, and the journal goes on after
it."""

from __future__ import annotations

import contextlib
import struct
from itertools import count
from math import inf

import pytest
from interrupting import Interrupt, Timeout

from hush_core.journal import appender
from hush_core.journal.appender import Journal
from hush_core.journal.format import FRAME_HEADER_BYTES, HEADER_BYTES, STORED_AT, WRITER_AT, frames
from hush_core.system import Files
from tests.journal.conftest import Journals

# A file that an interrupt leaves open is closed by the collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.usefixtures("nothing_is_left_open"),
]

RAISED = [Timeout, TimeoutError, SystemExit, KeyboardInterrupt]


def delete(journals: Journals) -> None:
    """Begin anew: each file that is there is an instant more."""
    for journal in journals._opened:
        for segment in filter(None, (journal._segment, journal._closed)):
            segment.release()
    journals._opened.clear()
    for path in journals.directory.glob("*"):  # there may be no folder yet
        path.unlink()


@pytest.mark.parametrize("raised", RAISED)
def test_what_a_handler_raises_at_any_instant_of_an_append_goes_on_and_so_does_the_journal(
    journals: Journals, kind: type[Files], raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "SEGMENT_BYTES", (4096, 4096, 4096))

    def interrupted_at(n: int) -> bool:
        journal = journals.open(kind(), power_safe=True)
        returned, interrupted = [], 0
        records = [b"%d %s" % (number, b"x" * 1000) for number in range(6)]  # the last ones are in the next segment
        with Interrupt(n, raised) as interrupt:
            for record in records:
                try:
                    journal.append(record)
                    returned.append(record)
                except raised:
                    interrupted += 1
        journal.append(b"after")
        found = journals.records(of=journal)
        assert interrupted == interrupt.came, "it was not raised where the app can see it"
        assert [record for record in found if record in returned] == returned, "a record was lost or doubled"
        assert len(found) == len(set(found)), "the record that was interrupted is there twice"
        assert found[-1] == b"after"
        assert journal.dropped == {}
        assert journals.reports == []
        delete(journals)
        return interrupt.came

    assert next(n for n in count() if not interrupted_at(n)) > 60


def publish_all_as_stored(journals: Journals, journal: Journal) -> None:
    """What the writer does when it has stored everything that is there."""
    for path in journals.segments(of=journal):
        content = path.read_bytes()
        end = HEADER_BYTES + sum(FRAME_HEADER_BYTES + len(payload) for payload, _ in frames(content[HEADER_BYTES:]))
        with path.open("r+b") as file:
            file.seek(STORED_AT)
            file.write(end.to_bytes(8, "little"))


def test_what_was_recorded_before_an_interrupt_can_be_waited_for_though_nothing_comes_after_it(
    journals: Journals, kind: type[Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "SEGMENT_BYTES", (4096, 4096, 4096))

    def interrupted_at(n: int) -> bool:
        journal = journals.open(kind(), power_safe=True)
        returned = 0
        with Interrupt(n, Timeout) as interrupt, contextlib.suppress(Timeout):
            for number in range(6):
                journal.append(b"%d %s" % (number, b"x" * 1000))
                returned += 1
        position = journal.position()
        journal.tend(at_once=True)  # as who waits does
        found = journals.records(of=journal)
        assert len(found) >= returned
        assert not (found and journal.is_stored(position)), "nobody has stored anything yet"
        publish_all_as_stored(journals, journal)
        assert journal.is_stored(position), "whoever waits for it would wait for ever"
        delete(journals)
        return interrupt.came

    assert next(n for n in count() if not interrupted_at(n)) > 60


WRITERS = {"no writer": b"", "a writer that died": struct.pack("<IQd", 1 << 30, 0, inf)}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("recording", [False, True], ids=["raises", "records"])
def test_what_was_in_a_deleted_segment_is_there_once_whatever_a_handler_does_meanwhile(
    journals: Journals, kind: type[Files], writer: bytes, recording: bool
) -> None:
    def interrupted_at(n: int) -> bool:
        journal = journals.open(kind())
        expected = [b"one", b"two", b"three"]
        for record in expected:
            journal.append(record)
        (path,) = journals.segments(of=journal)
        with path.open("r+b") as file:  # the writer promised to look again, and did not
            file.seek(WRITER_AT)
            file.write(writer)
        path.unlink()
        handler = (lambda: journal.append(b"of the handler")) if recording else None
        with Interrupt(n, Timeout, instead=handler) as interrupt, contextlib.suppress(Timeout):
            journal.tend(at_once=True)
        if recording and interrupt.came:
            expected.append(b"of the handler")
        journal.tend()
        journal.tend(at_once=True)
        assert sorted(journals.records(of=journal)) == sorted(expected)
        assert journals.reports == []
        delete(journals)
        return interrupt.came

    assert next(n for n in count() if not interrupted_at(n)) > 60


def test_a_ring_that_is_interrupted_is_made_up_for(journals: Journals, kind: type[Files]) -> None:
    def interrupted_at(n: int) -> bool:
        journal = journals.open(kind())
        journals.rings = 0
        with Interrupt(n, Timeout) as interrupt, contextlib.suppress(Timeout):
            journal.append(b"first")
        journal.append(b"second")
        assert journals.rings > 0
        delete(journals)
        return interrupt.came

    assert next(n for n in count() if not interrupted_at(n)) > 30
