"""Each call to the file system and to the database fails once, as a disk that is full or broken would have it."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from hush_core.errors import StoreError
from hush_core.journal import refusal
from hush_core.system import Files

from .children import Acknowledgements, Child, drain, open_journal, run_writer
from .history import Record, check_whole, expected, history, stored, totals
from .seams import Fuse, FusedFiles, fused_connect

#: Said by a child, beside the numbers of its records: a record was dropped, something was reported, a call failed.
DROPPED, REPORTED, FAILED = 1 << 40, 1 << 41, 1 << 42


def fail_with(number: int, said: Acknowledgements) -> None:
    said.say(FAILED)
    raise OSError(number, "injected")


def record_all(database: Path, files: Files, said: Acknowledgements, records: list[Record]) -> None:
    """Append a history; say of each record whether it was kept."""
    journal = open_journal(database, files, report=lambda problem, doing: said.say(REPORTED), power_safe=True)
    for number, record in enumerate(records):
        before = journal.dropped
        journal.append(record.payload)
        said.say(number if journal.dropped == before else DROPPED)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "plain"])
@pytest.mark.usefixtures("small_segments")
def test_an_app_goes_on_when_any_call_fails_and_counts_what_it_could_not_keep(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool, number: int, instants: Iterator[int]
) -> None:
    monkeypatch.setattr(refusal, "_RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(FusedFiles, "can_map", lambda self, directory: mapped)
    database = scratch / "traces.db"
    kept: list[Record] = []
    dropped = 0
    for turn, at in enumerate(instants, 1):
        records = history(8, name=f"app{at}")
        with Acknowledgements() as said:
            files = FusedFiles(Fuse(at, blow=partial(fail_with, number, said)))
            assert Child(partial(record_all, database, files, said, records), scratch / "errors").wait()
            heard = said.listen()
        failed = FAILED in heard
        kept += [record for index, record in enumerate(records) if index in heard]
        dropped += heard.count(DROPPED)
        assert heard.count(DROPPED) <= 1, "one failure cost more than one record"
        assert heard.count(REPORTED) <= 1
        if turn % 20 == 0 or not failed:
            drain(database)
        if not failed:
            break
    check_whole(database)
    assert stored(database) == expected(kept)
    counts = totals(database)
    assert counts.pop("records_stored") == len(kept)
    assert sum(counts.values()) == dropped
    assert at > 20


def fail_store(said: Acknowledgements) -> None:
    said.say(FAILED)
    raise sqlite3.OperationalError("injected: database or disk is full")


RECORDS = history(6)


def write_with_failure(database: Path, said: Acknowledgements, at: int, failing: str) -> None:
    """A writer of which one call fails: it may end, but only by saying why."""
    blow = partial(fail_store, said) if failing == "database" else partial(fail_with, errno.EIO, said)
    fuse, never = Fuse(at, blow=blow), Fuse(0)
    with suppress(StoreError):
        if failing == "database":
            run_writer(database, FusedFiles(never), connect=fused_connect(fuse))
        else:
            run_writer(database, FusedFiles(fuse), connect=fused_connect(never))


@pytest.mark.parametrize("failing", ["files", "database"])
@pytest.mark.usefixtures("small_segments")
def test_a_writer_gets_over_any_call_that_fails(scratch: Path, failing: str, instants: Iterator[int]) -> None:
    template = scratch / "template"
    template.mkdir()
    Child(partial(record_all, template / "traces.db", Files(), Acknowledgements(), RECORDS), scratch / "errors").wait()
    for at in instants:
        folder = scratch / f"copy-{at}"
        shutil.copytree(template, folder)
        database = folder / "traces.db"
        with Acknowledgements() as said:
            Child(partial(write_with_failure, database, said, at, failing), scratch / "errors").wait()
            failed = FAILED in said.listen()
        print(f"failed call {at}")
        drain(database)
        check_whole(database)
        assert stored(database) == expected(RECORDS)
        assert totals(database) == {"records_stored": len(RECORDS)}
        shutil.rmtree(folder)
        if not failed:
            break
    assert at > 20
