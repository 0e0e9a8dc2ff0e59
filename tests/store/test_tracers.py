"""Tracers as a reader sees them: what is due, what came of the rest, since when the longest waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trace_database import NOON_NS, TraceDatabase

from hush_core.store.queries import tracers
from hush_core.store.queries.tracers import TracerState, load_tracers


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TraceDatabase]:
    made = TraceDatabase(tmp_path / "traces.db")
    yield made
    made.close()


def load(database: TraceDatabase) -> dict[str, TracerState]:
    return {state.tracer_name: state for state in load_tracers(database.path)}


def test_a_database_without_deliveries_has_no_tracer(database: TraceDatabase) -> None:
    assert load_tracers(database.path) == []


def test_deliveries_are_counted_by_state_and_tracer(database: TraceDatabase) -> None:
    for number, status in enumerate(["pending"] * 3 + ["flushing"] * 2 + ["failed"] + ["flushed"] * 4 + ["skipped"]):
        row = database.request(f"r{number}")
        database.delivery(row, "prod", status=status)
        database.delivery(row, "local", status="flushed")
    prod, local = load(database)["prod"], load(database)["local"]
    assert (prod.pending, prod.flushing, prod.due, prod.dead) == (3, 2, 5, 1)
    assert (local.pending, local.flushing, local.due, local.dead) == (0, 0, 0, 0)
    assert (local.next_attempt_ns, local.oldest_due_ns) == (None, None)


def test_what_its_row_says_is_there(database: TraceDatabase) -> None:
    database.tracer(
        "prod", target="m:C", tracer_config='{"a": 1}', failures=7, retry_ns=5, paused="401", last_error="no",
        last_error_ns=6, last_sent_ns=4, sent=10, failed=2, skipped=3,
    )  # fmt: skip
    state = load(database)["prod"]
    assert (state.tracer_type, state.target, state.tracer_config) == ("MyTracer", "m:C", '{"a": 1}')
    assert (state.failures, state.retry_ns, state.paused, state.last_error) == (7, 5, "401", "no")
    assert (state.last_error_ns, state.last_sent_ns, state.sent, state.failed, state.skipped) == (6, 4, 10, 2, 3)


@pytest.mark.parametrize("read_each", [10_000, 1])
def test_the_longest_wait_and_the_next_attempt_are_found(
    database: TraceDatabase, monkeypatch: pytest.MonkeyPatch, read_each: int
) -> None:
    monkeypatch.setattr(tracers, "_READ_EACH", read_each)
    for number, next_attempt in enumerate([30, 10, 20]):
        row = database.request(f"r{number}")
        database.delivery(row, due_ns=NOON_NS + number, next_attempt_ns=NOON_NS + next_attempt, origin=number)
    state = load(database)["prod"]
    assert (state.oldest_due_ns, state.next_attempt_ns) == (NOON_NS, NOON_NS + 10)
    database.delivery(database.request("under-way"), status="flushing", due_ns=NOON_NS - 5)
    assert load(database)["prod"].oldest_due_ns == NOON_NS - 5


def test_a_look_holds_no_transaction(database: TraceDatabase) -> None:
    database.delivery(database.request("r"))
    load_tracers(database.path)
    busy, _, _ = database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
