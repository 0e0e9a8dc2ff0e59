"""The ledger: a delivery is claimed by one attempt at a time, and no state is without an exit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hush_core.model import REQUEST_COMPLETE
from hush_core.store.sqlite import JournalState, Slice, SqliteStore

SECOND = 1_000_000_000


def complete(request_id: str, tracer: str) -> bytes:
    return msgspec.msgpack.encode((REQUEST_COMPLETE, request_id, "MyTracer", {"url": "x"}, None, tracer))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "traces.db")
    state = JournalState("00" * 16, 1, 0, 0, 512, first=1)
    records = [complete("r1", "a"), complete("r2", "a"), complete("r2", "b"), complete("r3", "local")]
    records.append(msgspec.msgpack.encode((REQUEST_COMPLETE, "r3", "LocalTracer", {}, None)))
    opened.put([Slice(state, records, None)], keep_refused=lambda *_: pytest.fail("a record was refused"))
    yield opened
    opened.close()


def now(store: SqliteStore) -> int:
    """An instant at which everything that was put is due."""
    (latest,) = store.connection.execute("SELECT max(due_ns) FROM delivery").fetchone()
    return int(latest) + 1


def statuses(store: SqliteStore) -> list[str]:
    return [row[0] for row in store.connection.execute("SELECT status FROM delivery ORDER BY id")]


def test_what_is_due_to_the_local_tracer_is_flushed_at_once(store: SqliteStore) -> None:
    assert statuses(store) == ["pending", "pending", "pending", "pending", "flushed"]


def test_a_claim_takes_only_its_tracers_deliveries_and_counts_the_attempt(store: SqliteStore) -> None:
    claims = store.claim(now_ns=now(store), lease_s=60, limit=10, tracer_name="a")
    assert [(claim.tracer_name, claim.attempt, claim.fence) for claim in claims] == [("a", 1, 1), ("a", 1, 1)]
    assert store.claim(now_ns=now(store), lease_s=60, limit=10, tracer_name="a") == []


def test_an_acknowledged_delivery_is_never_claimed_again(store: SqliteStore) -> None:
    (claim,) = store.claim(now_ns=now(store), lease_s=1, limit=1)
    assert store.ack(claim, now_ns=now(store))
    later = now(store) + 3600 * SECOND
    assert claim.id not in [again.id for again in store.claim(now_ns=later, lease_s=1, limit=10)]


def test_a_lease_that_ran_out_is_claimed_anew_and_the_late_acknowledgement_changes_nothing(store: SqliteStore) -> None:
    (first,) = store.claim(now_ns=now(store), lease_s=5, limit=1, tracer_name="b")
    assert store.claim(now_ns=now(store) + 4 * SECOND, lease_s=5, limit=1, tracer_name="b") == []
    (second,) = store.claim(now_ns=now(store) + 6 * SECOND, lease_s=5, limit=1, tracer_name="b")
    assert (second.attempt, second.fence) == (2, 2)
    assert not store.ack(first, now_ns=now(store))
    assert not store.release(first, error="late", next_attempt_ns=None)
    assert store.ack(second, now_ns=now(store))


def test_a_released_delivery_waits_for_its_next_attempt_with_the_error_to_be_seen(store: SqliteStore) -> None:
    (claim,) = store.claim(now_ns=now(store), lease_s=60, limit=1, tracer_name="b")
    at = now(store) + 30 * SECOND
    assert store.release(claim, error="503 from the backend", next_attempt_ns=at)
    assert store.claim(now_ns=at - 1, lease_s=60, limit=10, tracer_name="b") == []
    (again,) = store.claim(now_ns=at, lease_s=60, limit=10, tracer_name="b")
    assert again.attempt == 2
    row = store.connection.execute("SELECT last_error FROM delivery WHERE id = ?", (claim.id,)).fetchone()
    assert row == ("503 from the backend",)


def test_a_dead_letter_is_kept_and_not_claimed(store: SqliteStore) -> None:
    (claim,) = store.claim(now_ns=now(store), lease_s=60, limit=1, tracer_name="b")
    assert store.release(claim, error="400: refused for good", next_attempt_ns=None)
    assert store.claim(now_ns=now(store) + 10**9 * SECOND, lease_s=60, limit=10, tracer_name="b") == []
    assert "failed" in statuses(store)
