"""Statistics: sums and exact percentiles of requests, nodes and models, and how far back they are read."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_database import NOON_NS, TraceDatabase

from hush_core.store.queries import RequestFilter, statistics
from hush_core.store.queries.statistics import Figures, Statistics, load_statistics, percentiles


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TraceDatabase]:
    made = TraceDatabase(tmp_path / "traces.db")
    yield made
    made.close()


def load(database: TraceDatabase, *, most: int | None = None, **conditions: object) -> Statistics:
    return load_statistics(database.path, RequestFilter(**conditions), most=most)  # type: ignore[arg-type]


def by_name(figures: list[Figures]) -> dict[str | None, Figures]:
    return {each.model or each.node_name or each.workflow_name: each for each in figures}


# -- what is summed up ------------------------------------------------------------------------------------------------


def test_an_empty_database_has_no_figures(database: TraceDatabase) -> None:
    found = load(database)
    assert (found.requests, found.nodes, found.is_whole, found.oldest_ns) == (0, 0, True, None)
    assert found.workflows == found.nodes_by_name == found.models == []


def test_requests_are_summed_up_by_workflow(database: TraceDatabase) -> None:
    for number, status in enumerate(("completed", "failed", "interrupted", "running")):
        database.request(f"r{number}", status=status, duration_ms=10.0 * (number + 1), total_tokens=7, cost_usd=0.25)
    database.request("other", workflow_name=None, duration_ms=None)
    figures = by_name(load(database).workflows)
    rag = figures["rag"]
    assert (rag.count, rag.errors, rag.interrupted, rag.running) == (4, 1, 1, 1)
    assert (rag.total_tokens, rag.cost_usd, rag.p50_ms, rag.p99_ms) == (28, 1.0, 20.0, 40.0)
    assert (figures[None].count, figures[None].p50_ms) == (1, None)


def test_nodes_are_summed_up_by_workflow_and_name(database: TraceDatabase) -> None:
    rag, chat = database.request("a"), database.request("b", workflow_name="chat")
    for at in range(3):
        database.node(rag, "rank", duration_ms=1.0 + at, status="error" if at == 1 else "ok")
    database.node(rag, "rank", status="running", duration_ms=None)
    database.node(chat, "rank", status="interrupted", duration_ms=None)
    found = {(each.workflow_name, each.node_name): each for each in load(database).nodes_by_name}
    rank = found["rag", "rank"]
    assert (rank.count, rank.errors, rank.running, rank.p50_ms, rank.p95_ms) == (4, 1, 1, 2.0, 3.0)
    assert (found["chat", "rank"].interrupted, found["chat", "rank"].p50_ms) == (1, None)


def test_models_are_summed_up_over_nodes_and_workflows(database: TraceDatabase) -> None:
    for workflow in ("rag", "chat"):
        row = database.request(workflow, workflow_name=workflow)
        database.node(
            row, "call", model="gpt-4o", prompt_tokens=80, completion_tokens=20, total_tokens=100, cost_usd=0.1
        )
        database.node(row, "rank")
    [model] = load(database).models
    assert (model.model, model.count, model.workflow_name, model.node_name) == ("gpt-4o", 2, None, None)
    assert (model.prompt_tokens, model.completion_tokens, model.total_tokens, model.cost_usd) == (160, 40, 200, 0.2)


def test_a_cost_that_is_not_known_is_none_and_counted_and_a_known_one_stays(database: TraceDatabase) -> None:
    row = database.request("r")
    database.node(row, "priced", model="a", cost_usd=0.5)
    database.node(row, "free", model="b", cost_usd=0.0)
    database.node(row, "unknown", model="c", total_tokens=5)
    database.node(row, "counted", total_tokens=5)
    database.node(row, "plain")
    found = load(database)
    assert {name: each.cost_usd for name, each in by_name(found.models).items()} == {"a": 0.5, "b": 0.0, "c": None}
    assert {name: each.unpriced for name, each in by_name(found.nodes_by_name).items()} == {
        "priced": 0, "free": 0, "unknown": 1, "counted": 1, "plain": 0
    }  # fmt: skip
    assert found.workflows[0].unpriced == 2


def test_the_most_frequent_come_first_and_of_those_the_slowest(database: TraceDatabase) -> None:
    row = database.request("r")
    for name, duration_ms, times in (("fast", 1, 2), ("slow", 9, 2), ("often", 1, 3), ("once", 99, 1)):
        for _ in range(times):
            database.node(row, name, duration_ms=duration_ms)
    assert [each.node_name for each in load(database).nodes_by_name] == ["often", "slow", "fast", "once"]


def test_a_duration_that_somebody_wrote_as_text_is_in_no_percentile(database: TraceDatabase) -> None:
    row = database.request("r")
    database.node(row, "n", duration_ms=3.0)
    database.connection.execute(
        "INSERT INTO node (request, node_name, status, duration_ms) VALUES (?, 'n', 'ok', 'x')", (row,)
    )
    [node] = load(database).nodes_by_name
    assert (node.count, node.p99_ms) == (2, 3.0)


@given(st.lists(st.floats(allow_nan=False), max_size=300))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[float]) -> None:
    found = percentiles(values)
    for percent, value in zip((50, 95, 99), found, strict=True):
        enough = [each for each in values if sum(other <= each for other in values) * 100 >= percent * len(values)]
        assert value == (min(enough) if values else None)


# -- which requests ---------------------------------------------------------------------------------------------------


def test_only_the_requests_that_meet_the_conditions_count(database: TraceDatabase) -> None:
    for number in range(4):
        row = database.request(f"r{number}", at_ms=number, tags=["odd"] if number % 2 else [], user_id=f"u{number}")
        database.node(row, "n")
    database.request("x", workflow_name="chat", status="failed")
    assert load(database, tags=("odd",)).nodes == 2
    assert load(database, user="u3").requests == 1
    assert load(database, since_ns=NOON_NS + 2_000_000).requests == 2
    assert [each.errors for each in load(database, workflow="chat").workflows] == [1]


def test_a_bound_takes_the_newest_and_says_that_there_are_more(database: TraceDatabase) -> None:
    for number in range(10):
        row = database.request(f"r{number}", at_ms=number)
        for _ in range(3):
            database.node(row, f"of-{number}")
    found = load(database, most=11)
    assert (found.requests, found.nodes, found.is_whole) == (2, 6, False)
    assert {each.node_name for each in found.nodes_by_name} == {"of-9", "of-8"}
    assert (found.oldest_ns, found.newest_ns) == (NOON_NS + 8_000_000, NOON_NS + 9_000_000)
    assert load(database, most=40).is_whole
    assert not load(database, most=39).is_whole


def test_the_newest_request_counts_however_large_it_is(database: TraceDatabase) -> None:
    row = database.request("r")
    for _ in range(20):
        database.node(row, "n")
    assert load(database, most=5).nodes == 20


@pytest.mark.parametrize("conditions", [{}, {"tags": ("t",)}])
def test_the_pages_in_which_it_is_read_change_nothing(
    database: TraceDatabase, monkeypatch: pytest.MonkeyPatch, conditions: dict[str, object]
) -> None:
    for number in range(50):
        row = database.request(
            f"r{number}", at_ms=number // 4, workflow_name=f"w{number % 3}", duration_ms=1.0 + number % 11, tags=["t"]
        )
        for at in range(number % 5):
            database.node(row, f"n{at}", duration_ms=float(number % 7 + at), model=f"m{at % 2}", cost_usd=0.01)
    whole = load(database, **conditions)
    monkeypatch.setattr(statistics, "_PAGE", 9)
    monkeypatch.setattr(statistics, "_PAGE_REQUESTS", 4)
    seen: list[int] = []
    assert load_statistics(database.path, RequestFilter(**conditions), progress=seen.append) == whole  # type: ignore[arg-type]
    assert seen == sorted(seen) and seen[-1] == 50 and len(seen) > 12
    assert math.isclose(sum(each.cost_usd or 0 for each in whole.models), 1.0)


def test_reading_holds_no_transaction(database: TraceDatabase) -> None:
    database.request("r")

    def checkpoint(_: int) -> None:
        connection = sqlite3.connect(database.path)
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        connection.close()
        assert busy == 0

    load_statistics(database.path, RequestFilter(), progress=checkpoint)
