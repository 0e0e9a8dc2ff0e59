"""The writer's natural end: whoever comes at the last moment is served by it, or by the next one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from trace_database import TraceDatabase

from hush_core import get_store
from hush_core.background import supervisor
from hush_core.background.answers import Answers
from hush_core.background.doorbell import connect, hand_in
from hush_core.background.election import elect
from hush_core.background.launch import environment_messages
from hush_core.background.supervisor import get_background, journal_directory
from hush_core.background.writer import Writer
from hush_core.journal.appender import Journal
from hush_core.store.retention import Retention
from hush_core.system import FILES


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(supervisor, "start_writer", lambda *_, **__: 1)
    return tmp_path / "traces.db"


@pytest.fixture
def writer(database: Path) -> Iterator[Writer]:
    """One that does nothing by itself."""
    directory = journal_directory(database)
    FILES.make_directory(directory)
    lock = elect(directory)
    assert lock is not None
    made = Writer(database, directory, lock=lock, retention=Retention(), log=lambda text: None)
    yield made
    made._bell.close()
    made.sources.close()
    made.delivery.close()
    made.store.close()


def record(database: Path) -> Journal:
    """Record a node, as an app does. Gives the journal that it is in."""
    get_store(database).insert_node_trace("r", "w", "n", None, None, 0, 1, 2, 1.0, None, None)
    return get_background(database)._journal


def environment_for(writer: Writer, journal: Journal) -> dict[str, str]:
    """The environment that deliveries for the app of a journal get."""
    return writer.delivery.environments.choose(writer.store.origin_of(journal.name), {"KEY"})


def listens(writer: Writer) -> bool:
    return writer._bell._listener is not None


def test_one_that_nobody_needs_stops_listening_and_ends(writer: Writer) -> None:
    assert writer._may_end()
    assert not listens(writer)


def test_one_that_finds_a_journal_at_the_last_look_goes_on_with_what_its_app_handed_in(
    writer: Writer, database: Path
) -> None:
    journal = record(database)
    assert hand_in(journal.directory, environment_messages(journal.name, {"KEY": "handed in"}, 1))
    assert not writer._may_end()
    assert listens(writer)
    assert environment_for(writer, journal) == {"KEY": "handed in"}


def test_what_an_app_handed_in_while_nothing_could_be_stored_is_filed_when_it_can(
    writer: Writer, database: Path
) -> None:
    journal = record(database)
    writer._store_again_at = float("inf")  # a full disk
    [message, *_] = environment_messages(journal.name, {"KEY": "handed in"}, 1)
    assert Answers(writer).answer(json.loads(message)) == {"taken": True}
    assert not writer.delivery.environments.knows(0)  # which is nobody's, and would serve anybody
    writer._store_again_at = 0.0
    writer.drain_once()
    writer.deliver()
    assert environment_for(writer, journal) == {"KEY": "handed in"}


def test_who_waits_for_an_answer_when_it_ends_gets_none_and_nothing_was_done_for_it(
    writer: Writer, database: Path
) -> None:
    made = TraceDatabase(database)
    made.tracer("prod")
    made.delivery(made.request("r"), "prod", status="failed")
    with connect(journal_directory(database), 5.0) as asking:
        asking.sendall(json.dumps({"verb": "redrive"}).encode() + b"\n")
        assert writer._may_end()
        assert asking.recv(100) == b""  # the next one answers
    assert made.connection.execute("SELECT status FROM delivery").fetchall() == [("failed",)]
    made.close()


def test_one_that_was_replaced_does_not_listen_again(writer: Writer, database: Path) -> None:
    record(database)
    writer.scan()
    writer.end_soon()
    assert writer._may_end()
    assert not listens(writer)


def test_its_status_says_how_often_the_disk_failed_to_keep_a_segment(writer: Writer) -> None:
    writer.syncer.faults = 3
    assert Answers(writer).answer({"verb": "status"})["sync_faults"] == 3
