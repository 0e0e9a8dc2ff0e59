"""The writer is killed before and after each call that it makes to the file system and to the database."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Container, Iterator
from functools import partial
from pathlib import Path

import pytest

from hush_core.background.supervisor import journal_directory
from hush_core.journal.format import DROP_REASONS
from hush_core.store.retention import Retention
from hush_core.store.sqlite import SqliteStore

from .children import Acknowledgements, Child, drain, open_journal, run_writer
from .history import Record, check_whole, expected, history, stored, totals
from .seams import AFTER, BEFORE, Fuse, FusedFiles, fused_connect

#: What three processes recorded. The first fills segments of every size, the second one, the third next to nothing.
HISTORIES = [history(6, name="long"), history(2, name="short"), history(1, name="one")]
DROPPED = 3
#: What a live process records: enough to leave a segment that the writer made ahead.
LIVE = history(12, name="live")


def check(database: Path, histories: list[list[Record]], *, dropped: Container[int]) -> None:
    """All of the histories is stored once, and the sum holds."""
    check_whole(database)
    whole = [expected(records) for records in histories]
    found = stored(database)
    assert found.requests == {key: status for each in whole for key, status in each.requests.items()}
    assert found.nodes == sorted((node for each in whole for node in each.nodes), key=repr)
    counts = totals(database)
    assert counts.pop("records_stored") == sum(map(len, histories))
    assert counts.pop(f"dropped:{DROP_REASONS[3]}", 0) in dropped
    assert counts == {}


def write_until_blown(database: Path, fuse: Fuse) -> None:
    run_writer(database, FusedFiles(fuse), connect=fused_connect(fuse))


def record(database: Path, records: list[Record]) -> None:
    """An app that records, could not keep some, and ends without any goodbye."""
    journal = open_journal(database)
    for each in records:
        journal.append(each.payload)
    for _ in range(DROPPED):
        journal.drop(DROP_REASONS[3])


@pytest.mark.parametrize("when", [BEFORE, AFTER])
@pytest.mark.usefixtures("small_segments")
def test_a_writer_killed_at_any_call_loses_nothing_and_doubles_nothing(
    scratch: Path, when: str, instants: Iterator[int]
) -> None:
    template = scratch / "template"
    template.mkdir()
    for records in HISTORIES:
        Child(partial(record, template / "traces.db", records), scratch / "errors").wait()
    for at in instants:
        folder = scratch / "copy"
        shutil.copytree(template, folder)
        database = folder / "traces.db"
        finished = Child(partial(write_until_blown, database, Fuse(at, when)), scratch / "errors").wait()
        print(f"killed {when} call {at}")
        drain(database)
        check(database, HISTORIES, dropped={DROPPED * len(HISTORIES)})
        shutil.rmtree(folder)
        if finished:
            break
    assert at > 50


def prune_all(database: Path, fuse: Fuse) -> None:
    store = SqliteStore(database, connect=fused_connect(fuse))
    Retention(keep_s=0.0).prune(store)
    store.close()


@pytest.mark.parametrize("when", [BEFORE, AFTER])
def test_a_writer_killed_while_it_prunes_deletes_whole_requests_and_counts_each_once(
    scratch: Path, when: str, instants: Iterator[int]
) -> None:
    template = scratch / "template.db"
    records = history(120)
    Child(partial(record, template, records), scratch / "errors").wait()
    drain(template)
    database = scratch / "traces.db"
    journal_directory(database).mkdir()
    for at in instants:
        shutil.copy(template, database)
        finished = Child(partial(prune_all, database, Fuse(at, when)), scratch / "errors").wait()
        print(f"killed {when} call {at}")
        left = stored(database)
        assert {node.request_id for node in left.nodes} == left.requests.keys()
        Child(partial(prune_all, database, Fuse(0)), scratch / "errors").wait()
        check_whole(database)
        assert stored(database) == expected([])
        counts = totals(database)
        assert (counts["requests_pruned"], counts["nodes_pruned"]) == (120, 240)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        if finished:
            break
    assert at > 10


ALL_STORED, ALL_DROPPED = len(LIVE), len(LIVE) + 1


def record_and_stay(database: Path, acknowledgements: Acknowledgements) -> None:
    """An app that records while the writer drains, sees all of it stored, then cannot keep some, and stays."""
    journal = open_journal(database)
    for number, each in enumerate(LIVE):
        journal.append(each.payload)
        acknowledgements.say(number)
        if number % 3 == 0:
            time.sleep(0.001)  # let the writer come in between
    while not journal.is_stored(journal.position()):
        time.sleep(0.0005)
    acknowledgements.say(ALL_STORED)
    for _ in range(DROPPED):
        journal.drop(DROP_REASONS[3])
    acknowledgements.say(ALL_DROPPED)
    signal.pause()


@pytest.mark.usefixtures("small_segments")
def test_a_writer_killed_at_any_call_beside_a_live_app_loses_nothing_and_doubles_nothing(
    scratch: Path, instants: Iterator[int]
) -> None:
    # Which call is the n-th depends on how far the app has come, here: what is tried is every number, not every call.
    for at in instants:
        database = scratch / f"{at}.db"
        with Acknowledgements() as said:
            app = Child(partial(record_and_stay, database, said), scratch / "app-errors")
            said.wait_for(0)
            writer = Child(partial(write_until_blown, database, Fuse(at)), scratch / "writer-errors")
            said.wait_for(len(LIVE) - 1)
            said.wait_for(ALL_DROPPED, or_until=writer.is_over)
            app.kill()
            finished = writer.wait()
            print(f"killed before call {at}")
            drain(database)
            dropped = {DROPPED} if ALL_DROPPED in said.listen() else range(DROPPED + 1)
        check(database, [LIVE], dropped=dropped)
        if finished:
            break
    assert at > 50
