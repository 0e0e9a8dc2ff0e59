"""Reading the store: who is listed, in which order, what a request holds, and what is said when it cannot be read."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from trace_database import MS, NOON_NS, TraceDatabase

from hush_core.errors import SchemaTooNewError, StoreError, UnknownRequestError
from hush_core.store.queries import get_request, iter_requests, open_reader, reader


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TraceDatabase]:
    made = TraceDatabase(tmp_path / "traces.db")
    yield made
    made.close()


def ids(database: TraceDatabase, **filters: object) -> list[str]:
    return [request.request_id for request in iter_requests(database.path, **filters)]  # type: ignore[arg-type]


# -- a list of requests -----------------------------------------------------------------------------------------------


def test_requests_come_newest_first(database: TraceDatabase) -> None:
    for number in range(3):
        database.request(f"r{number}", at_ms=number)
    assert ids(database) == ["r2", "r1", "r0"]


def test_requests_recorded_in_the_same_instant_come_newest_first_too(database: TraceDatabase) -> None:
    for number in range(5):
        database.request(f"r{number}")
    assert ids(database) == ["r4", "r3", "r2", "r1", "r0"]


def test_a_limit_gives_the_newest(database: TraceDatabase) -> None:
    for number in range(5):
        database.request(f"r{number}", at_ms=number)
    assert ids(database, limit=2) == ["r4", "r3"]
    assert ids(database, limit=0) == []


def test_each_filter_gives_only_what_meets_it(database: TraceDatabase) -> None:
    database.request("plain")
    database.request("other", workflow_name="chat", user_id="ann", session_id="s1", status="failed", tags=["vip", "x"])
    database.request("both", user_id="ann", tags=["vip"])
    assert ids(database, workflow="chat") == ["other"]
    assert ids(database, user="ann") == ["both", "other"]
    assert ids(database, session="s1") == ["other"]
    assert ids(database, status="failed") == ["other"]
    assert ids(database, status="completed") == ["both", "plain"]
    assert ids(database, status="running") == []
    assert ids(database, tag="vip") == ["both", "other"]


def test_filters_are_all_met_at_once(database: TraceDatabase) -> None:
    database.request("yes", workflow_name="chat", user_id="ann", tags=["a", "b"], status="failed")
    database.request("no-tag", workflow_name="chat", user_id="ann", tags=["a"], status="failed")
    database.request("no-user", workflow_name="chat", user_id="bob", tags=["a", "b"], status="failed")
    database.request("no-status", workflow_name="chat", user_id="ann", tags=["a", "b"])
    wanted = {"workflow": "chat", "user": "ann", "tag": ["a", "b"], "status": "failed"}
    assert ids(database, **wanted) == ["yes"]
    assert ids(database, tag=["a", "b"]) == ["no-status", "no-user", "yes"]


@pytest.mark.parametrize(
    "since",
    [NOON_NS + 2 * MS, "2025-01-31T12:00:00.002Z", datetime(2025, 1, 31, 12, 0, 0, 2000, timezone.utc)],
    ids=["ns", "text", "datetime"],
)
def test_since_takes_what_was_recorded_then_or_later(database: TraceDatabase, since: object) -> None:
    for number in range(4):
        database.request(f"r{number}", at_ms=number)
    assert ids(database, since=since) == ["r3", "r2"]


@pytest.mark.parametrize("filters", [{}, {"tag": "all"}, {"workflow": "rag"}, {"tag": ["all", "odd"]}])
def test_pages_neither_repeat_nor_skip_a_request(database: TraceDatabase, filters: dict[str, object]) -> None:
    with database.connection:
        for number in range(1203):
            tags = ["all", "odd"] if "odd" in filters.get("tag", "") or number % 2 else ["all"]  # type: ignore[operator]
            database.request(f"r{number}", at_ms=number // 7, tags=tags)
    assert ids(database, **filters) == [f"r{number}" for number in reversed(range(1203))]


def test_a_reader_that_is_left_half_way_holds_nothing(database: TraceDatabase) -> None:
    with database.connection:
        for number in range(600):
            database.request(f"r{number}")
    reading = iter_requests(database.path)
    assert next(reading).request_id == "r599"
    busy, _, _ = database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0


def test_an_unknown_status_names_the_valid_ones(database: TraceDatabase) -> None:
    with pytest.raises(StoreError, match=r"'done'.*running, completed, failed, interrupted"):
        iter_requests(database.path, status="done")


def test_a_time_that_is_none_says_what_one_looks_like(database: TraceDatabase) -> None:
    with pytest.raises(StoreError, match="'yesterday' is not a time"):
        iter_requests(database.path, since="yesterday")


@pytest.mark.parametrize("condition", [{"user": "\udcff"}, {"since": 2**63}, {"tag": "\ud800"}])
def test_what_no_database_can_hold_is_no_request_and_says_so(
    database: TraceDatabase, condition: dict[str, Any]
) -> None:
    database.request("r")
    with pytest.raises(StoreError, match=r"No request can meet these conditions|is not a time"):
        ids(database, **condition)


def test_a_request_has_its_sums_and_times(database: TraceDatabase) -> None:
    database.request("r", tags=["b", "a"], total_tokens=30, cost_usd=0.5, duration_ms=12.5, error="ValueError: no")
    [request] = iter_requests(database.path)
    assert (request.tags, request.total_tokens, request.cost_usd) == (["b", "a"], 30, 0.5)
    assert (request.duration_ms, request.error) == (12.5, "ValueError: no")
    assert request.start_time == "2025-01-31T12:00:00.000000Z"
    assert request.end_time == "2025-01-31T12:00:00.012500Z"


def test_times_of_a_request_are_those_of_the_view(database: TraceDatabase) -> None:
    for at_ms in (0, 0.001, 999.999, -5_000_000_000, 86_400_000):
        database.request(f"r{at_ms}", at_ms=at_ms)
    view = dict(database.connection.execute("SELECT request_id, start_time FROM requests").fetchall())
    assert {request.request_id: request.start_time for request in iter_requests(database.path)} == view


# -- one request ------------------------------------------------------------------------------------------------------


def test_a_request_is_found_by_the_beginning_of_its_id(database: TraceDatabase) -> None:
    database.request("abc-1")
    database.request("abd-2")
    assert get_request(database.path, "abc").request_id == "abc-1"


def test_an_exact_id_is_found_though_others_begin_with_it(database: TraceDatabase) -> None:
    for name in ("a", "ab", "abc"):
        database.request(name)
    assert get_request(database.path, "ab").request_id == "ab"


@pytest.mark.parametrize("name", ["%", "_", "a'b", "日本", "\U0010ffff", "a b"])
def test_an_id_may_hold_any_character(database: TraceDatabase, name: str) -> None:
    database.request(f"{name}-1")
    database.request("other")
    assert get_request(database.path, name).request_id == f"{name}-1"


def test_an_ambiguous_beginning_names_those_that_fit(database: TraceDatabase) -> None:
    for number in range(7):
        database.request(f"abc-{number}")
    with pytest.raises(UnknownRequestError, match=r"More than one .*'abc-0' \(rag, 2025.*'abc-4'.* and more"):
        get_request(database.path, "abc")


def test_an_unknown_id_names_those_that_come_near(database: TraceDatabase) -> None:
    database.request("request-1234")
    with pytest.raises(UnknownRequestError, match=r"'request-1243'.*Near: 'request-1234'"):
        get_request(database.path, "request-1243")


def test_an_unknown_id_that_resembles_none_names_the_newest(database: TraceDatabase) -> None:
    database.request("abc")
    with pytest.raises(UnknownRequestError, match=r"The newest are 'abc' .*hush traces"):
        get_request(database.path, "zzz")


def test_an_empty_id_is_unknown(database: TraceDatabase) -> None:
    database.request("abc")
    with pytest.raises(UnknownRequestError):
        get_request(database.path, "")


def test_an_empty_database_says_so(database: TraceDatabase) -> None:
    with pytest.raises(UnknownRequestError, match="holds none yet"):
        get_request(database.path, "abc")


def test_nodes_come_with_payloads_and_parents_before_children(database: TraceDatabase) -> None:
    row = database.request("r")
    database.node(row, "child", parent_name="root", execution_order=1, payload={"input_data": {"q": "why"}})
    root = database.node(row, "root", execution_order=0, at_ms=-1, duration_ms=50, payload={"output_data": [1, None]})
    trace = get_request(database.path, "r")
    assert [(node.node_name, node.parent_id) for node in trace.nodes] == [("root", None), ("child", root)]
    assert trace.nodes[0].output_data == [1, None]
    assert trace.nodes[1].input_data == {"q": "why"}


def test_nodes_of_other_requests_are_not_among_them(database: TraceDatabase) -> None:
    database.node(database.request("other"), "stranger")
    database.node(database.request("r"), "own")
    assert [node.node_name for node in get_request(database.path, "r").nodes] == ["own"]


def test_a_request_with_more_nodes_than_a_page_has_all_of_them(database: TraceDatabase) -> None:
    row = database.request("r")
    with database.connection:
        for number in range(4100):
            database.node(row, f"n{number}")
    assert [node.node_name for node in get_request(database.path, "r").nodes] == [f"n{n}" for n in range(4100)]


def test_a_payload_that_is_not_json_stays_text(database: TraceDatabase) -> None:
    row = database.request("r")
    node = database.node(row, "n", payload={"input_data": 1})
    database.connection.execute("UPDATE node_payload SET input_data = '{oops' WHERE node = ?", (node,))
    assert get_request(database.path, "r").nodes[0].input_data == "{oops"


def test_deliveries_are_part_of_a_request(database: TraceDatabase) -> None:
    row = database.request("r")
    database.delivery(row, tracer_type="LangfuseTracer", attempts=2, last_error="503")
    [delivery] = get_request(database.path, "r").deliveries
    assert delivery.as_dict() == {
        "tracer_name": "prod",
        "tracer_type": "LangfuseTracer",
        "status": "pending",
        "attempts": 2,
        "last_error": "503",
    }


def test_as_dict_has_plain_values_named_as_in_the_views(database: TraceDatabase) -> None:
    database.node(database.request("r"), "n", payload={"media": [{"hash": "x"}]})
    plain = get_request(database.path, "r").as_dict()
    views = {
        view: {column for (_, column, *_) in database.connection.execute(f"PRAGMA table_info({view})")}
        for view in ("requests", "node_traces")
    }
    assert set(plain) == views["requests"] - {"id"} | {"nodes", "deliveries"}
    of_the_request = {"request_id", "workflow_name", "user_id", "session_id"}
    assert set(plain["nodes"][0]) == views["node_traces"] - of_the_request | {"parent_id"}
    assert plain["nodes"][0]["media"] == [{"hash": "x"}]
    assert plain["nodes"][0]["contain_generation"] is False


# -- what cannot be read ----------------------------------------------------------------------------------------------


def test_a_missing_database_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "none" / "traces.db"
    with pytest.raises(StoreError, match=r"There is no database .*nothing has been recorded"):
        open_reader(path)
    assert not path.parent.exists()


def test_a_folder_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        open_reader(tmp_path)


def test_a_path_that_cannot_be_followed_says_why(tmp_path: Path) -> None:
    (tmp_path / "loop.db").symlink_to(tmp_path / "loop.db")
    with pytest.raises(StoreError, match="cannot be reached: Too many levels"):
        open_reader(tmp_path / "loop.db")


def test_a_path_through_a_file_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="There is no database"):
        open_reader(tmp_path / "file" / "traces.db")


def test_a_file_of_something_else_is_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and they are long enough to be no header " * 10)
    with pytest.raises(StoreError, match="not an SQLite database"):
        open_reader(path)
    assert sorted(os.listdir(tmp_path)) == ["home", "notes.txt"]


def test_a_database_of_somebody_else_is_named_as_such(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE request (id)")
    other.close()
    with pytest.raises(StoreError, match="not one of hush's"):
        open_reader(tmp_path / "other.db")


def test_a_newer_schema_is_refused_and_left_alone(database: TraceDatabase) -> None:
    database.connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SchemaTooNewError, match=r"schema 99; this hush reads up to \d+.*upgrade"):
        open_reader(database.path)


def test_a_database_that_is_being_made_is_empty_and_not_of_an_older_hush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "traces.db"
    path.touch()
    connect = reader._connect

    class MadeMeanwhile:
        """A connection; after its first statement, the writer makes the tables."""

        def __init__(self) -> None:
            self._connection = connect(path)

        def execute(self, sql: str) -> sqlite3.Cursor:
            found = self._connection.execute(sql)
            TraceDatabase(path).close()
            return found

        def close(self) -> None:
            self._connection.close()

    monkeypatch.setattr(reader, "_connect", lambda _: MadeMeanwhile())
    with pytest.raises(reader.EmptyDatabaseError):
        open_reader(path)


def test_an_older_schema_says_who_brings_it_up_to_date(database: TraceDatabase) -> None:
    database.connection.execute("PRAGMA user_version = 0")
    with pytest.raises(StoreError, match=r"older schema 0.*hush doctor"):
        open_reader(database.path)


def test_a_database_that_may_not_be_read_says_so(database: TraceDatabase) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    database.path.chmod(0)
    with pytest.raises(StoreError, match="may not be read by this user"):
        open_reader(database.path)


def test_a_damaged_database_says_what_becomes_of_it(database: TraceDatabase) -> None:
    database.request("r")
    database.close()
    content = bytearray(database.path.read_bytes())
    content[100:20_000] = b"\xff" * 19_900
    database.path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        list(iter_requests(database.path))


def test_damage_that_shows_while_reading_is_named_too(database: TraceDatabase) -> None:
    row = database.request("r")
    database.node(row, "n", payload={"input_data": "x" * 100_000})
    database.close()
    content = bytearray(database.path.read_bytes())
    with closing(sqlite3.connect(database.path)) as reader:
        (node_page,) = reader.execute("SELECT rootpage FROM sqlite_master WHERE name = 'node'").fetchone()
        (page_bytes,) = reader.execute("PRAGMA page_size").fetchone()
    content[(node_page - 1) * page_bytes : node_page * page_bytes] = b"\xff" * page_bytes
    database.path.write_bytes(content)
    assert ids(database) == ["r"]
    with pytest.raises(StoreError, match="is damaged"):
        get_request(database.path, "r")


@pytest.mark.parametrize(
    "damage", ["UPDATE request SET tags = '[\"half'", "UPDATE request SET user_id = CAST(x'ff' AS TEXT)"]
)
def test_sound_pages_with_wrong_content_are_damage_too(database: TraceDatabase, damage: str) -> None:
    database.request("r")
    database.connection.execute(damage)
    with pytest.raises(StoreError, match="is damaged"):
        ids(database)


def test_a_reader_can_not_write(database: TraceDatabase) -> None:
    reader = open_reader(database.path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM request")
    reader.close()


def test_a_reader_that_closes_last_copies_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path;"
        "from trace_database import TraceDatabase;"
        "made = TraceDatabase(Path(sys.argv[1])); made.request('r'); os._exit(0)"
    )
    support = Path(__file__).parents[1] / "support"
    subprocess.run([sys.executable, "-c", script, str(path), str(support)], check=True)
    before = path.read_bytes()
    log = Path(f"{path}-wal").read_bytes()
    assert [request.request_id for request in iter_requests(path)] == ["r"]
    assert path.read_bytes() == before
    assert Path(f"{path}-wal").read_bytes() == log


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "what?.db", "a#b.db", "tracés-日本.db", "file:x.db"])
def test_a_path_may_hold_any_character(tmp_path: Path, name: str) -> None:
    made = TraceDatabase(tmp_path / name)
    made.request("r")
    assert [request.request_id for request in iter_requests(made.path)] == ["r"]
    made.close()
