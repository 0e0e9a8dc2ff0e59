"""What the journal's tests share: both kinds of segment, a journal that notes what it asks for, and its records read
back."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hush_core.journal.appender import Journal
from hush_core.journal.format import HEADER_BYTES, parse_segment_name
from hush_core.journal.reader import next_good_frame, read_header, replay
from hush_core.journal.segment import UNFINISHED_PREFIX
from hush_core.system import FILES, Files

ORIGIN_PAYLOAD = b"where this journal comes from"


class MappedFiles(Files):
    """A file system whose allocated blocks are certain, whatever the test runs on."""

    def can_map(self, directory: Path) -> bool:
        return True


class PlainFiles(Files):
    """A file system that must be written with write(2)."""

    def can_map(self, directory: Path) -> bool:
        return False


KINDS: dict[str, type[Files]] = {"mapped": MappedFiles, "plain": PlainFiles}


@pytest.fixture(
    params=[
        pytest.param("mapped", marks=pytest.mark.skipif(sys.platform != "linux", reason="mapped on Linux only")),
        "plain",
    ]
)
def kind(request: pytest.FixtureRequest) -> type[Files]:
    """The class of `Files` that makes segments of this kind; each test with it runs for both."""
    return KINDS[request.param]


class Journals:
    """Makes journals in one directory, notes what they ask for, and reads them back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rings = 0
        self.nobody_hears = False
        self.reports: list[tuple[str, str]] = []
        self.shrunk: list[tuple[int, int]] = []
        self._opened: list[Journal] = []

    def open(self, files: Files = FILES, **more: Any) -> Journal:
        journal = Journal(
            self.directory,
            ring=self._ring,
            origin=more.pop("origin", lambda: ORIGIN_PAYLOAD),
            shrink=more.pop("shrink", self._shrink),
            report=self._report,
            files=files,
            **more,
        )
        self._opened.append(journal)
        return journal

    def _ring(self, is_armed: bool) -> bool:
        self.rings += 1
        return self.nobody_hears

    def _shrink(self, payload: bytes, limit: int) -> bytes:
        self.shrunk.append((len(payload), limit))
        return payload[:limit]

    def _report(self, problem: BaseException, doing: str) -> None:
        self.reports.append((type(problem).__name__, doing))

    def segments(self, *, of: Journal | None = None) -> list[Path]:
        """The segment files, those of a journal in order."""
        paths = sorted(path for path in self.directory.glob("*.segment") if not path.name.startswith(UNFINISHED_PREFIX))
        return [path for path in paths if of is None or _first_sequence(path) == of.first_sequence]

    def records(self, *, of: Journal | None = None) -> list[bytes]:
        """What is in the journals, without the record that opens each; nothing in them may be damaged."""
        return [payload for path in self.segments(of=of) for payload in read_whole(path) if payload != ORIGIN_PAYLOAD]

    def close(self) -> None:
        for journal in self._opened:
            if journal._segment is not None:
                journal._segment.release()


def _first_sequence(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_header(FILES, fd).first_sequence
    finally:
        os.close(fd)


def read_whole(path: Path) -> list[bytes]:
    """Every payload of a segment file that must be whole."""
    fd = os.open(path, os.O_RDONLY)
    try:
        first = read_header(FILES, fd).first_sequence
        payloads, at = [], HEADER_BYTES
        while True:
            found = replay(FILES, fd, at, first)
            if not found.payloads:
                assert next_good_frame(FILES, fd, found.end, first) is None, f"{path.name} is damaged at {found.end}"
                return payloads
            payloads += found.payloads
            at = found.end
    finally:
        os.close(fd)


def sequences(paths: list[Path]) -> list[int]:
    """The sequence of every frame of these segment files, in the order in which they lie there."""
    found = []
    for path in paths:
        content = path.read_bytes()
        at = HEADER_BYTES
        for payload in read_whole(path):
            found.append(int(struct.unpack_from("<Q", content, at + 8)[0]))
            at += 24 + len(payload)
    return found


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[Journals]:
    """Journals in a directory of the test's own."""
    made = Journals(tmp_path / "traces.db.journal")
    yield made
    made.close()


@pytest.fixture
def in_child() -> Callable[[Callable[[], None]], None]:
    """Run something in a forked child; it fails the test if it raises there or does not end."""
    return run_in_child


def run_in_child(work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed; its traceback is on stderr"


def segment_numbers(directory: Path) -> list[int]:
    return sorted(parsed[1] for name in os.listdir(directory) if (parsed := parse_segment_name(name)))
