"""What nothing uses any more goes: sealed secrets, configurations of tracers, origins. What may be needed stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hush_core.model import ORIGIN
from hush_core.secret import resolve, seal, secrets_folder
from hush_core.store.retention import Retention
from hush_core.store.unused import drop_unused
from tests.store.conftest import OTHER_JOURNAL, StoreUnderTest, begin, complete

DAY_S = 86_400.0


class Shop(StoreUnderTest):
    """A store beside sealed secrets."""

    @property
    def folder(self) -> Path:
        return secrets_folder(self.path)

    def seal(self, secret: str, *, days_ago: float = 2) -> dict[str, str]:
        """A configuration with the secret, last used that long ago."""
        config = seal({"key": secret}, self.folder)
        used = time.time() - days_ago * DAY_S
        os.utime(self.folder / config["key"][9:-1], (used, used))
        return config

    def kept(self, config: dict[str, str]) -> bool:
        return (self.folder / config["key"][9:-1]).exists()

    def deliver(
        self, config: dict[str, str], request_id: str = "r", name: str = "prod", sent_days_ago: float = 50
    ) -> None:
        """A request that its tracer got long ago."""
        self.put(complete(request_id=request_id, tracer_type="T", tracer_name=name, tracer_config=config))
        sent_ns = time.time_ns() - int(sent_days_ago * DAY_S * 1e9)
        self.store.connection.execute("UPDATE delivery SET status = 'flushed'")
        self.store.connection.execute(
            "UPDATE tracer SET sent = 1, last_sent_ns = ? WHERE id = (SELECT max(id) FROM tracer)", (sent_ns,)
        )

    def forget(self, request_id: str = "r") -> None:
        """As if it had been pruned."""
        sql = "DELETE FROM delivery WHERE request = (SELECT id FROM request WHERE request_id = ?)"
        self.store.connection.execute(sql, (request_id,))
        self.store.connection.execute("DELETE FROM request WHERE request_id = ?", (request_id,))
        self.store.after_deletion()

    def drop_unused(self) -> None:
        for _ in drop_unused(self.store, 30 * DAY_S):
            pass


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "traces.db")
    yield made
    made.store.close()


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_a_secret_that_nothing_refers_to_goes_a_day_after_its_last_use(shop: Shop) -> None:
    old, fresh = shop.seal("sk-old"), shop.seal("sk-fresh", days_ago=0.9)
    shop.drop_unused()
    assert (shop.kept(old), shop.kept(fresh)) == (False, True)
    assert resolve(fresh, {}, shop.folder).config == {"key": "sk-fresh"}
    assert seal({"key": "sk-fresh"}, shop.folder) == fresh  # the key that names them is the same


def test_a_secret_of_a_tracer_stays_for_as_long_as_the_tracer(shop: Shop) -> None:
    old, new = shop.seal("sk-old"), shop.seal("sk-new")
    shop.deliver(old, "r-1")
    shop.deliver(new, "r-2")
    shop.drop_unused()
    assert shop.kept(old) and shop.kept(new)
    shop.forget("r-1")
    shop.forget("r-2")
    shop.drop_unused()
    assert (shop.kept(old), shop.kept(new)) == (False, True)


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_a_secret_of_a_request_that_may_still_become_due_stays(status: str, shop: Shop) -> None:
    config = shop.seal("sk-1")
    shop.put(begin(tracers=[["prod", "T", config, "", None]]))
    shop.store.connection.execute("UPDATE request SET status = ?", (status,))
    shop.drop_unused()
    assert shop.kept(config)


@pytest.mark.parametrize("place", ["0-000001.segment", "set-aside/record"])
def test_a_secret_that_a_journal_or_a_record_set_aside_refers_to_stays(place: str, shop: Shop) -> None:
    configs = [shop.seal(f"sk-{number}") for number in range(3)]
    path = shop.folder.parent / place
    path.parent.mkdir(exist_ok=True)
    first, second = (config["key"].encode() for config in configs[:2])
    edge = 1024 * 1024 - 20  # where two chunks meet
    path.write_bytes(b"\0" * 100 + first + b"\xff" * (edge - 100 - len(first)) + second + b"\0" * 100)
    shop.drop_unused()
    assert [shop.kept(config) for config in configs] == [True, True, False]


def test_what_is_stored_while_journals_are_searched_is_seen(shop: Shop) -> None:
    config, other = shop.seal("sk-1"), shop.seal("sk-2")
    segment = shop.folder.parent / "0-000001.segment"
    segment.write_bytes(b"\0")
    steps = drop_unused(shop.store, 30 * DAY_S)
    next(steps)
    shop.deliver(config)
    segment.unlink()
    for _ in steps:
        pass
    assert (shop.kept(config), shop.kept(other)) == (True, False)


def test_a_secret_that_is_used_again_while_journals_are_searched_stays(shop: Shop) -> None:
    config = shop.seal("sk-1")
    (shop.folder.parent / "0-000001.segment").write_bytes(b"\0")
    steps = drop_unused(shop.store, 30 * DAY_S)
    next(steps)
    seal({"key": "sk-1"}, shop.folder)
    for _ in steps:
        pass
    assert shop.kept(config)


def test_no_secret_goes_while_a_damaged_database_may_refer_to_it(shop: Shop) -> None:
    config = shop.seal("sk-1")
    shop.path.with_name("traces.db.damaged-20260101T000000-1-1").touch()
    shop.drop_unused()
    assert shop.kept(config)


# -- tracers and origins ----------------------------------------------------------------------------------------------


def test_an_older_configuration_without_deliveries_goes_and_its_totals_stay(shop: Shop) -> None:
    for number in range(3):
        shop.deliver({"key": f"${{K{number}}}"}, f"r-{number}")
        if number != 1:
            shop.forget(f"r-{number}")
    shop.deliver({"key": "${X}"}, "r-x", name="other")
    shop.forget("r-x")
    shop.drop_unused()
    left = shop.rows("SELECT tracer_name, tracer_config, sent FROM tracer ORDER BY id")
    assert [tuple(row.values()) for row in left] == [
        ("prod", '{"key":"${K1}"}', 1),  # something was sent to it that is still stored
        ("prod", '{"key":"${K2}"}', 2),
        ("other", '{"key":"${X}"}', 1),
    ]
    shop.deliver({"key": "${K0}"}, "r-again")  # what is in memory of the one that is gone is not used
    assert shop.row(
        "SELECT tracer_config FROM delivery d JOIN tracer t ON t.id = d.tracer ORDER BY d.id DESC LIMIT 1"
    ) == {"tracer_config": '{"key":"${K0}"}'}


def test_an_older_configuration_that_was_busy_lately_stays(shop: Shop) -> None:
    shop.deliver({"key": "${OLD}"}, "r-1", sent_days_ago=20)
    shop.deliver({"key": "${NEW}"}, "r-2")
    shop.forget("r-1")
    shop.drop_unused()
    assert len(shop.rows("SELECT id FROM tracer")) == 2


def test_an_origin_goes_when_no_journal_no_delivery_and_nothing_in_memory_is_of_it(shop: Shop) -> None:
    def origins() -> list[str]:
        return [row["cwd"] for row in shop.rows("SELECT json_extract(origin, '$.cwd') AS cwd FROM origin ORDER BY id")]

    def record(journal: str, cwd: str, request_id: str) -> None:
        origin = msgspec.msgpack.encode((ORIGIN, {"cwd": cwd}))
        shop.put(origin, complete(request_id=request_id, tracer_type="T", tracer_name="prod"), journal=journal)

    for number, cwd in enumerate(["/delivered", "/gone", "/remembered", "/lives", "/newest"]):
        record(f"{number:032x}", cwd, f"r-{number}")
        if cwd != "/delivered":
            shop.forget(f"r-{number}")
    for number in (0, 1):
        shop.end(f"{number:032x}")
        shop.store.forget_journals([shop.store.journals()[f"{number:032x}"]])
    shop.reopen()  # the next writer remembers none of the two
    shop.end(f"{2:032x}")
    shop.store.forget_journals([shop.store.journals()[f"{2:032x}"]])
    shop.drop_unused()
    assert origins() == ["/delivered", "/remembered", "/lives", "/newest"]
    record(OTHER_JOURNAL, "/gone", "r-again")
    assert origins()[-1] == "/gone"


# -- as a part of pruning ---------------------------------------------------------------------------------------------


def test_pruning_drops_what_is_unused_at_its_end_and_not_each_time(shop: Shop) -> None:
    rules = Retention(keep_s=30 * DAY_S)
    first = shop.seal("sk-1")
    rules.prune_some(shop.store)
    assert not shop.kept(first)
    second = shop.seal("sk-2")
    rules.prune_some(shop.store)
    assert shop.kept(second)


def test_a_dry_run_drops_nothing(shop: Shop) -> None:
    config = shop.seal("sk-1")
    Retention(keep_s=30 * DAY_S).prune(shop.store, dry_run=True)
    assert shop.kept(config)
