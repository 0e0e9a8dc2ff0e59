"""The ledger: a delivery is claimed by one attempt at a time, and no state is without an exit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hush_core.model import REQUEST_COMPLETE
from hush_core.store.ledger import Claim, Lane, Release, TracerKey
from hush_core.store.sqlite import JournalState, Slice, SqliteStore

SECOND = 1_000_000_000


def complete(request_id: str, tracer: str, config: dict[str, str] | None = None) -> bytes:
    record = [REQUEST_COMPLETE, request_id, "MyTracer", config or {"url": "x"}, None, tracer, *[None] * 6, "m:MyTracer"]
    return msgspec.msgpack.encode(record)


class Deliveries:
    """A store with three requests: two are due to tracer "a", one of them also to "b"; the third to "local"."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self.ledger = self.store.ledger
        records = [complete("r1", "a"), complete("r2", "a"), complete("r2", "b")]
        records.append(msgspec.msgpack.encode((REQUEST_COMPLETE, "r3", "LocalTracer", {}, None)))
        self._position: tuple[int, int] | None = None
        self.store.put([self.slice(*records)], keep_refused=lambda *_: pytest.fail("a record was refused"))
        (self.now,) = self.one("SELECT max(due_ns) + 1 FROM delivery")

    def slice(self, *records: bytes) -> Slice:
        """The next records of the one journal."""
        since, self._position = self._position, (0, 512 if self._position is None else self._position[1] + 1)
        return Slice(JournalState("00" * 16, 1, 0, *self._position, first=1), list(records), since)

    def requests(self) -> list[int]:
        """The rows of the requests, in the order in which they came."""
        return [row[0] for row in self.store.connection.execute("SELECT id FROM request ORDER BY id")]

    def one(self, sql: str) -> tuple[int, ...]:
        row: tuple[int, ...] = self.store.connection.execute(sql).fetchone()
        return row

    def key(self, name: str) -> TracerKey:
        return TracerKey(name, "MyTracer", "m:MyTracer", '{"url":"x"}')

    def lane(self, name: str) -> Lane:
        return Lane(self.one(f"SELECT id FROM tracer WHERE tracer_name = '{name}'")[0], 0)

    def claim(self, name: str, *, after_s: float = 0, limit: int = 10) -> list[Claim]:
        return self.ledger.claim(self.lane(name), now_ns=self.now + int(after_s * SECOND), limit=limit)

    def release(self, name: str, *releases: Release) -> None:
        self.ledger.release(self.lane(name), releases, now_ns=self.now)

    def statuses(self) -> list[str]:
        return [row[0] for row in self.store.connection.execute("SELECT status FROM delivery ORDER BY id")]

    def totals(self, name: str) -> tuple[int, ...]:
        return self.one(f"SELECT sent, failed, skipped FROM tracer WHERE tracer_name = '{name}'")


@pytest.fixture
def due(tmp_path: Path) -> Iterator[Deliveries]:
    opened = Deliveries(tmp_path / "traces.db")
    yield opened
    opened.store.close()


def test_what_is_due_to_the_local_tracer_is_flushed_at_once(due: Deliveries) -> None:
    assert due.statuses() == ["pending", "pending", "pending", "flushed"]
    assert due.totals("LocalTracer") == (1, 0, 0)


def test_new_lanes_are_those_in_which_something_is_pending(due: Deliveries) -> None:
    assert due.ledger.take_new_lanes() == {due.lane("a"), due.lane("b")} == due.ledger.lanes()
    assert due.ledger.take_new_lanes() == set()


def test_a_claim_takes_only_its_lanes_deliveries_and_counts_the_attempt(due: Deliveries) -> None:
    assert [(claim.attempt, claim.fence) for claim in due.claim("a")] == [(1, 1), (1, 1)]
    assert due.claim("a") == []
    assert due.claim("b") != []


def test_a_claim_takes_no_more_than_it_was_asked_for_the_longest_due_first(due: Deliveries) -> None:
    (first,) = due.claim("a", limit=1)
    (second,) = due.claim("a", limit=1)
    assert first.request < second.request


def test_an_acknowledged_delivery_is_never_claimed_again_and_counted_once(due: Deliveries) -> None:
    (claim,) = due.claim("b")
    assert due.ledger.ack(due.lane("b"), [(claim, None)], now_ns=due.now) == 1
    assert due.ledger.ack(due.lane("b"), [(claim, None)], now_ns=due.now) == 0
    assert due.claim("b", after_s=3600) == []
    assert due.totals("b") == (1, 0, 0)


def test_a_late_word_of_an_attempt_that_lost_its_lease_changes_nothing(due: Deliveries) -> None:
    (first,) = due.claim("b")
    assert due.ledger.reclaim() == 1
    (second,) = due.claim("b")
    assert (second.attempt, second.fence) == (2, 2)
    assert due.ledger.ack(due.lane("b"), [(first, None)], now_ns=due.now) == 0
    due.release("b", Release(first, "failed", "late"))
    assert due.statuses()[2] == "flushing"
    assert due.ledger.ack(due.lane("b"), [(second, None)], now_ns=due.now) == 1


def test_a_released_delivery_waits_for_its_next_attempt_with_the_error_to_be_seen(due: Deliveries) -> None:
    (claim,) = due.claim("b")
    at = due.now + 30 * SECOND
    due.release("b", Release(claim, "pending", "503 from the backend", at))
    assert due.ledger.next_due_ns(due.lane("b")) == at
    assert due.claim("b", after_s=29) == []
    (again,) = due.claim("b", after_s=30)
    assert again.attempt == 2
    sql = "SELECT last_error FROM {} WHERE id = {}"
    assert due.one(sql.format("delivery", claim.id)) == ("503 from the backend",)
    assert due.one(sql.format("tracer", due.lane("b").tracer)) == ("503 from the backend",)


def test_what_was_not_tried_after_all_has_no_attempt_counted(due: Deliveries) -> None:
    (claim,) = due.claim("b")
    due.release("b", Release(claim, "pending", is_attempt=False))
    (again,) = due.claim("b")
    assert again.attempt == 1


def test_a_dead_letter_is_kept_counted_and_not_claimed(due: Deliveries) -> None:
    (claim,) = due.claim("b")
    due.release("b", Release(claim, "failed", "400: refused for good"))
    assert due.claim("b", after_s=10**8) == []
    assert due.statuses()[2] == "failed"
    assert due.totals("b") == (0, 1, 0)


def test_a_dead_letter_is_due_again_when_it_is_redriven(due: Deliveries) -> None:
    (claim,) = due.claim("b")
    due.release("b", Release(claim, "failed", "400"))
    due.ledger.take_new_lanes()
    assert due.ledger.redrive("a", None, due.now) == 0
    assert due.ledger.redrive("b", "r1", due.now) == 0
    assert due.ledger.redrive("b", "r2", due.now) == 1
    assert due.ledger.take_new_lanes() == {due.lane("b")}
    (again,) = due.claim("b")
    assert again.attempt == 1


def test_flush_now_lifts_every_wait_of_a_tracer(due: Deliveries) -> None:
    (claim,) = due.claim("b")
    due.release("b", Release(claim, "pending", "503", due.now + 3600 * SECOND))
    due.ledger.note(due.lane("b").tracer, failures=7, retry_ns=due.now + 300 * SECOND, paused="401")
    assert due.ledger.flush_now("b", due.now) == (1, {due.lane("b").tracer})
    assert due.ledger.row(due.lane("b").tracer)[2:] == (0, 0, None)
    assert due.claim("b") != []


def test_a_stored_request_can_be_sent_to_a_tracer_that_never_got_it(due: Deliveries) -> None:
    requests = due.requests()
    missing = due.ledger.to_send(due.key("b"), None, requests, again=False)
    assert missing == [requests[0], requests[2]]
    due.ledger.send_again(due.lane("b"), missing, due.now)
    assert len(due.claim("b")) == 3


def test_what_was_delivered_is_sent_again_only_on_request_and_what_is_under_way_is_not(due: Deliveries) -> None:
    (claim,) = due.claim("b")
    assert due.ledger.to_send(due.key("b"), None, [claim.request], again=True) == []
    due.ledger.ack(due.lane("b"), [(claim, None)], now_ns=due.now)
    assert due.ledger.to_send(due.key("b"), None, [claim.request], again=False) == []
    assert due.ledger.to_send(due.key("b"), None, [claim.request], again=True) == [claim.request]
    due.ledger.send_again(due.lane("b"), [claim.request], due.now)
    (again,) = due.claim("b")
    assert again.attempt == 1


def test_a_replay_goes_by_the_tracers_name_and_not_by_its_configuration(due: Deliveries) -> None:
    due.store.connection.execute("INSERT INTO origin VALUES (7, 'x', '{\"config\":\"/app/hush.toml\"}')")
    due.store.put([due.slice(complete("r1", "b", config={"url": "old"}))], keep_refused=pytest.fail)
    due.store.connection.execute("UPDATE delivery SET origin = 7")
    requests = due.requests()
    assert due.ledger.to_send(due.key("b"), "/app/hush.toml", requests, again=False) == requests[2:]
    assert due.ledger.to_send(due.key("b"), "/other/hush.toml", requests, again=False) == [requests[0], requests[2]]


def test_a_tracer_as_it_is_now_adopts_what_waits_for_older_configurations(due: Deliveries) -> None:
    due.store.connection.execute("INSERT INTO origin VALUES (7, 'x', '{\"config\":\"/app/hush.toml\"}')")
    (dead,) = due.claim("b")
    due.release("b", Release(dead, "failed", "404: moved"))
    new = TracerKey("b", "MyTracer", "m:MyTracer", '{"url":"new"}')
    due.store.put(
        [due.slice(complete("r2", "b", config={"url": "new"}), complete("r1", "b"))], keep_refused=pytest.fail
    )
    due.store.connection.execute("UPDATE delivery SET origin = 7")
    due.ledger.take_new_lanes()
    assert due.ledger.adopt(new, "/other/hush.toml") == 0
    assert due.ledger.adopt(new, "/app/hush.toml") == 1  # "r1"; of "r2" it has one of its own
    with due.store._transaction(durable=False):
        lane = Lane(due.ledger.tracer(new), 7)
    assert due.ledger.take_new_lanes() == {lane}
    claims = due.ledger.claim(lane, now_ns=due.now + SECOND, limit=10)
    assert sorted(claim.request for claim in claims) == due.requests()[:2]
    assert due.one("SELECT count(*) FROM delivery JOIN tracer t ON t.id = tracer WHERE tracer_name = 'b'") == (2,)


def test_nothing_is_made_for_a_tracer_that_has_nothing_to_adopt(due: Deliveries) -> None:
    assert due.ledger.adopt(TracerKey("c", "MyTracer", "m:MyTracer", "{}"), "/app/hush.toml") == 0
    assert due.one("SELECT count(*) FROM tracer WHERE tracer_name = 'c'") == (0,)


def test_open_deliveries_are_those_that_are_pending_or_under_way(due: Deliveries) -> None:
    (claim,) = due.claim("b")
    assert due.ledger.count_open() == 3
    due.ledger.ack(due.lane("b"), [(claim, None)], now_ns=due.now)
    assert due.ledger.count_open() == 2
