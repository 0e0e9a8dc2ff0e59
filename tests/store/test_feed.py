"""Following a database: what is new, what has ended, in the order of time, whatever becomes of the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from trace_database import MS, NOON_NS, TraceDatabase

from hush_core.errors import SchemaTooNewError
from hush_core.store.queries import RequestFilter
from hush_core.store.queries.feed import Event, Feed


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TraceDatabase]:
    made = TraceDatabase(tmp_path / "traces.db")
    yield made
    made.close()


@pytest.fixture
def feed(database: TraceDatabase) -> Iterator[Feed]:
    made = Feed(database.path, RequestFilter())
    yield made
    made.close()


def said(events: list[Event]) -> list[str]:
    return [f"{event.kind} {event.node.node_name if event.node else event.request_id}" for event in events]


def end(database: TraceDatabase, node: int, at_ms: float, status: str = "ok") -> None:
    database.connection.execute(
        "UPDATE node SET status = ?, end_ns = ?, duration_ms = 1 WHERE id = ?",
        (status, NOON_NS + int(at_ms * MS), node),
    )


def complete(database: TraceDatabase, request: int, at_ms: float, status: str = "completed") -> None:
    database.connection.execute(
        "UPDATE request SET status = ?, end_ns = ? WHERE id = ?", (status, NOON_NS + int(at_ms * MS), request)
    )


def test_it_begins_with_the_newest_nodes_and_all_that_runs(database: TraceDatabase, feed: Feed) -> None:
    row = database.request("r", status="running")
    database.node(row, "agent", status="running")
    for number in range(5):
        database.node(row, f"n{number}", at_ms=number + 1)
    assert said(feed.begin(2)) == ["node_started agent", "node_ended n3", "node_ended n4"]
    assert feed.poll() == []


def test_a_node_that_is_stored_while_it_begins_is_told_once(
    database: TraceDatabase, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = database.request("r", status="running")
    look = feed._ends

    def look_then_store(connection: sqlite3.Connection) -> tuple[int, int]:
        ends = look(connection)
        monkeypatch.undo()
        database.node(row, "late", status="running")
        return ends

    monkeypatch.setattr(feed, "_ends", look_then_store)
    assert said([*feed.begin(5), *feed.poll(), *feed.poll()]) == ["node_started late"]


def test_a_node_is_told_when_it_begins_and_when_it_ends(database: TraceDatabase, feed: Feed) -> None:
    feed.begin(0)
    row = database.request("r", status="running")
    node = database.node(row, "agent", status="running")
    assert said(feed.poll()) == ["node_started agent"]
    assert feed.poll() == []
    end(database, node, 5)
    [event] = feed.poll()
    assert (event.kind, event.request_id, event.workflow_name) == ("node_ended", "r", "rag")
    assert event.at_ns == NOON_NS + 5 * MS
    assert feed.poll() == []


def test_a_node_that_ran_before_it_began_to_follow_is_told_when_it_ends(database: TraceDatabase, feed: Feed) -> None:
    row = database.request("r", status="running")
    node = database.node(row, "agent", status="running")
    feed.begin(0)
    end(database, node, 5, "interrupted")
    complete(database, row, 6, "interrupted")
    events = feed.poll()
    assert said(events) == ["node_ended agent", "request_ended r"]
    assert events[0].node is not None and events[0].node.status == "interrupted"


def test_events_come_in_the_order_of_time_and_a_request_after_its_nodes(database: TraceDatabase, feed: Feed) -> None:
    feed.begin(0)
    row = database.request("r", duration_ms=10)
    database.node(row, "late", at_ms=5, duration_ms=5)
    database.node(row, "early", at_ms=1, duration_ms=2)
    assert said(feed.poll()) == ["node_ended early", "node_ended late", "request_ended r"]


def test_a_request_that_ended_before_is_not_told_again(database: TraceDatabase, feed: Feed) -> None:
    database.request("old")
    assert feed.begin(5) == []
    database.request("new")
    assert said(feed.poll()) == ["request_ended new"]


def test_only_what_meets_the_conditions_is_told(database: TraceDatabase) -> None:
    feed = Feed(database.path, RequestFilter(tags=("vip",), workflow="chat"))
    feed.begin(0)
    for name, workflow, tags in (("no", "chat", ["x"]), ("yes", "chat", ["vip"]), ("other", "rag", ["vip"])):
        database.node(database.request(name, workflow_name=workflow, tags=tags), name)
    assert said(feed.poll()) == ["node_ended yes", "request_ended yes"]
    feed.close()


def test_more_than_a_page_at_once_is_told_whole(database: TraceDatabase, feed: Feed) -> None:
    row = database.request("r", status="running")
    with database.connection:
        running = [database.node(row, f"n{number}", status="running") for number in range(1300)]
    assert len(feed.begin(0)) == 1300
    with database.connection:
        for number in running:
            end(database, number, 1)
        for number in range(1100):
            database.node(row, f"m{number}")
    assert len(feed.poll()) == 2400


def test_it_waits_for_a_database_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "later.db"
    feed = Feed(path, RequestFilter())
    assert feed.begin(10) == []
    assert feed.poll() == []
    path.touch()
    assert feed.poll() == []
    path.unlink()
    made = TraceDatabase(path)
    assert feed.poll() == []
    made.node(made.request("r"), "n")
    assert said(feed.poll()) == ["node_ended n", "request_ended r"] or said(feed.poll()) == []
    feed.close()
    made.close()


def test_it_goes_on_in_a_database_that_took_the_place_of_the_old_one(tmp_path: Path, database: TraceDatabase) -> None:
    feed = Feed(database.path, RequestFilter())
    for number in range(10):
        database.node(database.request(f"old{number}"), "old")
    feed.begin(0)
    database.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database.path}{suffix}").unlink(missing_ok=True)
    made = TraceDatabase(database.path)
    made.node(made.request("new"), "n")
    assert said(feed.poll()) == ["node_ended n", "request_ended new"]
    feed.close()
    made.close()


def test_a_deleted_node_is_forgotten(database: TraceDatabase, feed: Feed) -> None:
    row = database.request("r", status="running")
    database.node(row, "agent", status="running")
    feed.begin(0)
    database.connection.execute("DELETE FROM node")
    database.connection.execute("DELETE FROM request")
    assert feed.poll() == []


def test_it_holds_no_transaction_between_looks(database: TraceDatabase, feed: Feed) -> None:
    row = database.request("r")
    database.node(row, "n")
    feed.begin(5)
    feed.poll()
    busy, _, _ = database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0


def test_a_database_of_a_newer_hush_is_an_error(database: TraceDatabase, feed: Feed) -> None:
    database.connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaTooNewError):
        feed.begin(5)
