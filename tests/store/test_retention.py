"""Pruning: whole requests, the oldest first, delivered ones before others, running ones never."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hush_core.store import retention
from hush_core.store.retention import Pruned, Retention, used_bytes
from tests.store.conftest import NODE, StoreUnderTest, complete, node

DAY_S = 86_400.0
KB = 1024


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[StoreUnderTest]:
    under_test = StoreUnderTest(tmp_path / "traces.db")
    yield under_test
    under_test.store.close()


def request(
    stored: StoreUnderTest, request_id: str, *, days_old: float = 0, due: str = "flushed", payload: int = 100
) -> None:
    """Put a request of two nodes; ``due`` is the state of its delivery, or None if it runs."""
    stored.put(*(node(NODE, request_id=request_id, input_data="x" * payload, tags=["t"]) for _ in range(2)))
    if due != "running":
        stored.put(complete(request_id=request_id, tracer_type="Langfuse"))
    execute = stored.store.connection.execute
    newest = "(SELECT max(id) FROM request)"
    execute(f"UPDATE delivery SET status = ? WHERE status = 'pending' AND request = {newest}", (due,))
    execute(
        "UPDATE request SET recorded_ns = ? WHERE request_id = ?",
        (time.time_ns() - int(days_old * DAY_S * 1e9), request_id),
    )


def left(stored: StoreUnderTest) -> list[str]:
    return [found["request_id"] for found in stored.requests]


def prune(stored: StoreUnderTest, *, dry_run: bool = False, **bounds: float) -> Pruned:
    return Retention(**bounds).prune(stored.store, dry_run=dry_run)  # type: ignore[arg-type]


# -- age --------------------------------------------------------------------------------------------------------------


def test_requests_older_than_the_bound_go_whole(stored: StoreUnderTest) -> None:
    for days in (40, 31, 29, 0):
        request(stored, f"{days} days", days_old=days)
    found = prune(stored, keep_s=30 * DAY_S)
    assert left(stored) == ["29 days", "0 days"]
    assert (found.requests, found.nodes, found.undelivered) == (2, 4, 0)
    for table in ("node", "delivery", "request_tag"):
        assert stored.row(f"SELECT count(DISTINCT request) AS n FROM {table}") == {"n": 2}
    assert stored.row("SELECT count(*) AS n FROM node_payload") == {"n": 4}


def test_what_runs_or_is_still_due_is_never_too_old(stored: StoreUnderTest) -> None:
    for due in ("running", "pending", "flushing", "failed", "flushed"):
        request(stored, due, days_old=100, due=due)
    prune(stored, keep_s=DAY_S)
    assert left(stored) == ["running", "pending", "flushing"]


def test_no_bound_prunes_nothing(stored: StoreUnderTest) -> None:
    request(stored, "old", days_old=10_000)
    assert not Retention().is_due()
    assert prune(stored).requests == 0
    assert left(stored) == ["old"]


def test_it_is_due_at_first_and_then_once_a_while(stored: StoreUnderTest) -> None:
    rules = Retention(keep_s=DAY_S)
    assert rules.is_due()
    rules.prune_some(stored.store)
    assert not rules.is_due()


def test_what_is_due_is_pruned_a_chunk_at_a_time(stored: StoreUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_CHUNK", 2)
    for number in range(5):
        request(stored, f"old {number}", days_old=40)
    request(stored, "new")
    rules = Retention(keep_s=DAY_S)
    remaining = []
    while rules.is_due():
        rules.prune_some(stored.store)
        remaining.append(len(left(stored)))
        stored.put(node(request_id="new"))  # the writer stores what comes meanwhile
    assert remaining == [4, 2, 1, 1]


def test_a_look_begins_anew_with_another_store(stored: StoreUnderTest, tmp_path: Path) -> None:
    request(stored, "old", days_old=40)
    rules = Retention(keep_s=DAY_S)
    rules.prune_some(stored.store)
    assert rules.is_due()
    other = StoreUnderTest(tmp_path / "other.db")
    rules.prune_some(other.store)
    assert not rules.is_due()
    other.store.close()


# -- size -------------------------------------------------------------------------------------------------------------


def test_the_database_shrinks_below_its_bound(stored: StoreUnderTest) -> None:
    for number in range(300):
        request(stored, f"r{number}", days_old=300 - number, payload=4 * KB)
    before = used_bytes(stored.store.connection)
    limit = before // 2
    found = prune(stored, max_size_bytes=limit)
    assert found.bytes_before == before
    assert found.bytes_after == used_bytes(stored.store.connection) <= limit
    assert left(stored) == [f"r{number}" for number in range(found.requests, 300)]  # the oldest went
    assert limit - found.bytes_after < before // 4  # and not many more than had to


def test_delivered_requests_go_before_dead_letters_and_those_before_what_is_still_due(stored: StoreUnderTest) -> None:
    kinds = ("pending", "failed", "flushed", "running")
    for number in range(60):
        for kind in kinds:
            request(stored, f"{kind} {number}", days_old=60 - number, due=kind, payload=2 * KB)
    gone: list[str] = []
    while True:
        limit = used_bytes(stored.store.connection) - 1
        before = left(stored)
        found = prune(stored, max_size_bytes=limit)
        if not found.requests:
            break
        went = sorted({name.split()[0] for name in before} - {name.split()[0] for name in left(stored)})
        gone += went
        assert found.undelivered == sum(name.startswith("pending") for name in set(before) - set(left(stored)))
    assert gone == ["flushed", "failed", "pending"]
    assert {name.split()[0] for name in left(stored)} == {"running"}


def test_pages_that_are_free_go_back_to_the_file_system(stored: StoreUnderTest) -> None:
    for number in range(200):
        request(stored, f"r{number}", days_old=50, payload=8 * KB)
    stored.store.checkpoint()
    before = stored.path.stat().st_size
    prune(stored, keep_s=DAY_S)
    stored.store.checkpoint()
    assert stored.path.stat().st_size < before // 4


# -- dry runs, counts, and what comes after ---------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [{"keep_s": 30 * DAY_S}, {"max_size_bytes": 700 * KB}], ids=["age", "size"])
def test_a_dry_run_says_what_a_real_run_does_and_changes_nothing(
    stored: StoreUnderTest, bounds: dict[str, float]
) -> None:
    for number in range(200):
        kind = ("flushed", "failed", "pending", "running")[number % 4]
        request(stored, f"r{number}", days_old=number / 2, due=kind, payload=3 * KB)
    everything = left(stored)
    would = prune(stored, dry_run=True, **bounds)
    assert would.dry_run
    assert left(stored) == everything
    assert prune(stored, dry_run=True, **bounds) == would
    did = prune(stored, **bounds)
    assert did.requests > 0
    # What is too old is known exactly; how much room a request takes is estimated before it is gone.
    slack = 0 if "keep_s" in bounds else 10
    assert abs(would.requests - did.requests) <= slack
    assert abs(would.nodes - did.nodes) <= 2 * slack
    assert abs(would.undelivered - did.undelivered) <= slack
    assert would.bytes_before == did.bytes_before
    assert abs(would.bytes_after - did.bytes_after) < 0.15 * did.bytes_before


def test_what_was_pruned_is_counted_in_the_totals(stored: StoreUnderTest) -> None:
    for number in range(3):
        request(stored, f"r{number}", days_old=50)
    prune(stored, keep_s=DAY_S)
    totals = {row["name"]: row["count"] for row in stored.rows("SELECT * FROM total")}
    assert totals == {"requests_pruned": 3, "nodes_pruned": 6}


def test_a_record_for_a_pruned_request_begins_it_anew(stored: StoreUnderTest) -> None:
    request(stored, "r", days_old=50)
    prune(stored, keep_s=DAY_S)
    stored.put(node(request_id="r", total_tokens=5))
    assert (stored.request["node_count"], stored.request["total_tokens"], stored.request["status"]) == (1, 5, "running")


def test_after_a_failure_half_way_what_is_gone_is_gone_and_the_rest_is_right(
    stored: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(120):
        request(stored, f"r{number}", days_old=50)
    delete: Callable[..., None] = retention._delete
    calls = 0

    def fail_later(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise sqlite3.OperationalError("disk I/O error")
        delete(*args)

    monkeypatch.setattr(retention, "_delete", fail_later)
    with pytest.raises(sqlite3.OperationalError):
        prune(stored, keep_s=DAY_S)
    assert len(stored.requests) == 70
    stored.put(node(request_id="r0", total_tokens=5))  # one of those that are gone
    assert stored.requests[-1]["node_count"] == 1
