"""What becomes of records in the tables: starts meet ends, sums are kept, odd values are kept visible."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hush_core.model import (
    COMPLETED,
    FAILED,
    INTERRUPTED,
    NODE,
    NODE_END,
    NODE_FIELDS,
    NODE_INTERRUPTED,
    NODE_OK,
    NODE_RUNNING,
    NODE_START,
    ORIGIN,
    RUNNING,
)
from tests.store.conftest import OTHER_JOURNAL, StoreUnderTest, begin, complete, node

START_NS = 1_700_000_000_000_000_000
MS = 1_000_000


def start(span: int | None = 1, **fields: Any) -> bytes:
    return node(NODE_START, span=span, **{"start_time": START_NS, "input_data": {"in": 1}, **fields})


def end(span: int | None = 1, **fields: Any) -> bytes:
    return node(NODE_END, span=span, **{"end_time": START_NS + 5 * MS, "output_data": {"out": 2}, **fields})


# -- a node in one piece ----------------------------------------------------------------------------------------------


def test_a_node_is_stored_with_every_field(stored: StoreUnderTest) -> None:
    fields = {
        "request_id": "r", "workflow_name": "flow", "node_name": "n", "parent_name": "p", "context_id": "[0].[2]",
        "execution_order": 3, "start_time": START_NS, "end_time": START_NS + 1500, "duration_ms": 7.5,
        "input_data": {"a": 1}, "output_data": {"b": [2]}, "user_id": "u", "session_id": "s", "model": "m",
        "prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30, "cost_usd": 0.25, "contain_generation": True,
        "metadata": {"c": None}, "node_type": "llm", "error": None, "level": "DEBUG", "media": [{"d": "e"}],
        "time_to_first_token_ms": 1.5, "cached_tokens": 4, "reasoning_tokens": 5, "span": 11, "parent_span": 12,
        "tags": ["t"],
    }  # fmt: skip
    assert set(fields) == set(NODE_FIELDS)
    stored.put(node(**fields))
    found = stored.node
    for name, value in fields.items():
        if name in ("input_data", "output_data", "metadata", "media"):
            assert json.loads(found[name]) == value
        elif name in ("start_time", "end_time"):
            assert found[name.replace("time", "ns")] == value
        elif name in ("request_id", "workflow_name", "user_id", "session_id"):
            assert stored.request[name] == value
        elif name == "tags":
            assert json.loads(stored.request["tags"]) == value
        else:
            assert found[name] == value
    assert found["status"] == NODE_OK


def test_the_public_view_names_its_columns_as_the_call_does(stored: StoreUnderTest) -> None:
    stored.put(node(start_time=START_NS, end_time="2023-11-14T22:13:20.005Z", input_data={"a": 1}))
    seen = stored.row("SELECT * FROM node_traces")
    assert (seen["start_time"], seen["end_time"]) == ("2023-11-14T22:13:20.000000Z", "2023-11-14T22:13:20.005000Z")
    assert seen["duration_ms"] == 5.0
    assert seen["input_data"] == '{"a":1}'


def test_a_duration_that_nobody_said_is_counted_from_the_times(stored: StoreUnderTest) -> None:
    stored.put(node(start_time=START_NS, end_time=START_NS + 5 * MS))
    assert stored.node["duration_ms"] == 5.0


@pytest.mark.parametrize("fields", [{"error": "ValueError: no"}, {"level": "ERROR"}])
def test_a_node_with_an_error_counts_as_one(stored: StoreUnderTest, fields: dict[str, str]) -> None:
    stored.put(node(**fields), node())
    assert [found["status"] for found in stored.nodes] == ["error", "ok"]
    assert stored.request["error_count"] == 1


def test_trailing_fields_may_be_missing_and_further_ones_are_ignored(stored: StoreUnderTest) -> None:
    """An older hush records fewer fields; a newer one may record more."""
    stored.put(
        msgspec.msgpack.encode((NODE, "r", "flow", "short")),
        msgspec.msgpack.encode((NODE, "r", "flow", "long", *([None] * (len(NODE_FIELDS) - 3)), "more", {"and": 1})),
    )
    assert [found["node_name"] for found in stored.nodes] == ["short", "long"]
    assert stored.refused == []


# -- starts and ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 2], ids=["one batch", "two batches"])
def test_a_start_and_its_end_are_one_node(stored: StoreUnderTest, batches: int) -> None:
    records = [start(node_type="llm", model=None), end(model="m", total_tokens=7, cost_usd=0.5, metadata={"k": "v"})]
    for batch in [records] if batches == 1 else [[record] for record in records]:
        stored.put(*batch)
    found = stored.node
    assert (found["status"], found["start_ns"], found["end_ns"]) == (NODE_OK, START_NS, START_NS + 5 * MS)
    assert (found["duration_ms"], found["node_type"], found["model"]) == (5.0, "llm", "m")
    assert (found["input_data"], found["output_data"], found["metadata"]) == ('{"in":1}', '{"out":2}', '{"k":"v"}')
    assert (stored.request["node_count"], stored.request["total_tokens"], stored.request["cost_usd"]) == (1, 7, 0.5)


def test_a_start_alone_shows_what_runs_now(stored: StoreUnderTest) -> None:
    stored.put(start())
    assert (stored.node["status"], stored.node["input_data"]) == (NODE_RUNNING, '{"in":1}')
    assert (stored.request["status"], stored.request["node_count"]) == (RUNNING, 1)


def test_a_start_meets_its_end_in_a_later_writers_life(stored: StoreUnderTest) -> None:
    stored.put(start())
    stored.reopen()
    stored.put(end())
    assert (stored.node["status"], stored.node["duration_ms"]) == (NODE_OK, 5.0)


def test_an_end_without_a_start_is_the_whole_node(stored: StoreUnderTest) -> None:
    stored.put(end(span=99, start_time=START_NS))
    assert (stored.node["status"], stored.node["duration_ms"]) == (NODE_OK, 5.0)
    assert stored.request["node_count"] == 1


def test_ends_and_starts_without_a_span_never_meet(stored: StoreUnderTest) -> None:
    stored.put(start(span=None), start(span=None), end(span=None))
    assert [found["status"] for found in stored.nodes] == [NODE_RUNNING, NODE_RUNNING, NODE_OK]


@pytest.mark.parametrize("split", range(7))
def test_interleaved_nodes_meet_their_own_ends_wherever_the_batch_is_cut(stored: StoreUnderTest, split: int) -> None:
    records = [
        start(1, node_name="a"), start(2, node_name="b"), end(1, node_name="a", output_data="from a"),
        start(3, node_name="c"), end(3, node_name="c", output_data="from c"),
        end(2, node_name="b", output_data="from b"),
    ]  # fmt: skip
    stored.put(*records[:split])
    stored.put(*records[split:])
    assert [(found["node_name"], found["output_data"], found["status"]) for found in stored.nodes] == [
        ("a", '"from a"', NODE_OK),
        ("b", '"from b"', NODE_OK),
        ("c", '"from c"', NODE_OK),
    ]


def test_an_end_that_comes_twice_does_not_undo_the_first(stored: StoreUnderTest) -> None:
    """A process that forked inside a node: both sides leave it."""
    stored.put(start(), end(output_data="first"))
    stored.put(end(output_data="second"))
    assert [found["output_data"] for found in stored.nodes] == ['"first"', '"second"']


def test_an_error_at_the_end_makes_the_node_and_the_request_count_it(stored: StoreUnderTest) -> None:
    stored.put(start())
    stored.put(end(error="ValueError: no", level="ERROR"))
    assert (stored.node["status"], stored.node["error"]) == ("error", "ValueError: no")
    assert stored.request["error_count"] == 1


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_is_known_from_its_first_record(stored: StoreUnderTest) -> None:
    stored.put(begin(workflow_name="flow", user_id="u", session_id="s", start_time=START_NS, tags=["a", "b", "a"]))
    found = stored.request
    assert (found["workflow_name"], found["user_id"], found["session_id"]) == ("flow", "u", "s")
    assert (found["status"], found["start_ns"], found["tags"]) == (RUNNING, START_NS, '["a","b"]')


def test_who_says_first_what_a_request_is_called_is_right(stored: StoreUnderTest) -> None:
    stored.put(node(workflow_name="first"), node(workflow_name="second", user_id="u"))
    stored.put(node(user_id="other"))
    assert (stored.request["workflow_name"], stored.request["user_id"]) == ("first", "u")


def test_a_requests_time_spans_its_nodes(stored: StoreUnderTest) -> None:
    stored.put(node(start_time=START_NS, end_time=START_NS + 5), node(start_time=START_NS - 3, end_time=START_NS + 2))
    assert (stored.request["start_ns"], stored.request["end_ns"]) == (START_NS - 3, START_NS + 5)


def test_sums_hold_what_nodes_said_and_stay_unknown_where_none_did(stored: StoreUnderTest) -> None:
    stored.put(node(prompt_tokens=1), node(prompt_tokens=2, cost_usd=0.5))
    stored.put(node(cost_usd=0.25))
    found = stored.request
    assert (found["prompt_tokens"], found["completion_tokens"], found["cost_usd"]) == (3, None, 0.75)


def test_tags_are_kept_once_in_order_wherever_they_come_from(stored: StoreUnderTest) -> None:
    stored.put(begin(tags=["a"]), node(tags=["b", "a"]))
    stored.reopen()
    stored.put(node(tags=["c", "b"]), complete(tags=["a", "d"]))
    assert json.loads(stored.request["tags"]) == ["a", "b", "c", "d"]
    assert sorted(row["tag"] for row in stored.rows("SELECT tag FROM request_tag")) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, COMPLETED), (COMPLETED, COMPLETED), (FAILED, FAILED), (INTERRUPTED, INTERRUPTED),
        (RUNNING, COMPLETED), ("nonsense", COMPLETED), (["failed"], COMPLETED), (1, COMPLETED),
    ],
)  # fmt: skip
def test_a_complete_request_has_ended_one_way_or_another(stored: StoreUnderTest, said: object, expected: str) -> None:
    stored.put(node(), complete(status=said, error="why", end_time=START_NS))
    assert (stored.request["status"], stored.request["error"], stored.request["end_ns"]) == (expected, "why", START_NS)


def test_a_duplicate_completion_changes_nothing_and_is_due_once(stored: StoreUnderTest) -> None:
    due = complete(tracer_type="Langfuse", tracer_config={"url": "x"}, tracer_name="prod")
    stored.put(node(), due, due)
    stored.put(due)
    assert stored.request["status"] == COMPLETED
    delivery = stored.row("SELECT * FROM deliveries")
    assert (delivery["tracer_name"], delivery["tracer_type"]) == ("prod", "Langfuse")
    assert (delivery["tracer_config"], delivery["status"]) == ('{"url":"x"}', "pending")


def test_a_request_is_due_once_to_each_of_its_tracers(stored: StoreUnderTest) -> None:
    stored.put(complete(tracer_type="A"), complete(tracer_type="B"), complete(tracer_type="LocalTracer"))
    assert [(row["tracer_name"], row["status"]) for row in stored.rows("SELECT * FROM deliveries ORDER BY id")] == [
        ("A", "pending"), ("B", "pending"), ("LocalTracer", "flushed"),
    ]  # fmt: skip


def test_a_record_after_the_end_is_kept_and_the_request_stays_complete(stored: StoreUnderTest) -> None:
    stored.put(node(), complete())
    stored.put(node(), begin(workflow_name="late"))
    assert (stored.request["status"], stored.request["node_count"]) == (COMPLETED, 2)
    assert stored.end() == []


def test_a_delivery_knows_where_its_request_comes_from(stored: StoreUnderTest) -> None:
    stored.put(msgspec.msgpack.encode((ORIGIN, {"executable": "/usr/bin/python3"})), node(), complete())
    found = stored.row("SELECT origin.origin FROM delivery JOIN origin ON origin.id = delivery.origin")
    assert json.loads(found["origin"]) == {"executable": "/usr/bin/python3"}


# -- requests whose process died --------------------------------------------------------------------------------------


def test_a_request_whose_process_ended_is_interrupted_and_due_so(stored: StoreUnderTest) -> None:
    stored.put(begin(tracers=[["prod", "Langfuse", {"url": "x"}]]), start(1), end(1), start(2))
    assert stored.end() == ["r"]
    assert stored.request["status"] == INTERRUPTED
    assert [found["status"] for found in stored.nodes] == [NODE_OK, NODE_INTERRUPTED]
    delivery = stored.row("SELECT * FROM deliveries")
    assert (delivery["tracer_name"], delivery["tracer_config"], delivery["status"]) == (
        "prod",
        '{"url":"x"}',
        "pending",
    )


def test_a_request_goes_on_while_any_of_its_processes_lives(stored: StoreUnderTest) -> None:
    stored.put(begin(), node())
    stored.put(node(), journal=OTHER_JOURNAL)
    assert stored.end() == []
    assert stored.request["status"] == RUNNING
    assert stored.end(OTHER_JOURNAL) == ["r"]
    assert stored.request["status"] == INTERRUPTED


def test_an_interrupted_request_goes_on_when_another_process_records_for_it(stored: StoreUnderTest) -> None:
    stored.put(begin())
    stored.end()
    stored.put(node(), journal=OTHER_JOURNAL)
    assert stored.request["status"] == RUNNING
    stored.put(complete(), journal=OTHER_JOURNAL)
    assert stored.request["status"] == COMPLETED


def test_a_node_that_was_left_and_ends_in_another_process_is_one_node(stored: StoreUnderTest) -> None:
    stored.put(begin(), start(1), start(2))
    stored.end()
    stored.put(end(2, output_data=1), end(2), journal=OTHER_JOURNAL)
    stored.put(end(1), complete(), journal=OTHER_JOURNAL)
    assert stored.request["status"] == COMPLETED
    assert [found["status"] for found in stored.nodes][:2] == [NODE_OK, NODE_OK]
    assert len(stored.nodes) == 3  # the end that came twice is a node of its own, as ever


def test_what_was_due_as_interrupted_is_due_anew_when_the_request_goes_on_and_completes(
    stored: StoreUnderTest,
) -> None:
    tracer = ["prod", "Langfuse", {"url": "x"}]
    stored.put(begin(tracers=[tracer]), start(1))
    stored.end()
    stored.store.connection.execute("UPDATE delivery SET status = 'flushed'")
    stored.put(node(), journal=OTHER_JOURNAL)
    assert stored.rows("SELECT * FROM delivery") == []
    stored.put(complete(tracer_name="prod", tracer_type="Langfuse", tracer_config={"url": "x"}), journal=OTHER_JOURNAL)
    assert stored.row("SELECT * FROM deliveries")["status"] == "pending"


def test_a_request_with_several_tracers_is_due_to_each_as_soon_as_it_is_complete_for_one(
    stored: StoreUnderTest,
) -> None:
    tracers = [["a", "A", {"url": "x"}, "m:A", None], ["b", "B", {}, "m:B", {"when": ["error"]}]]
    stored.put(begin(tracers=tracers))
    stored.put(complete(tracer_name="a", tracer_type="A", tracer_config={"url": "x"}, target="m:A"))
    stored.end()  # the process dies before it says so for the other
    rows = stored.rows("SELECT * FROM deliveries ORDER BY id")
    assert [(row["tracer_name"], row["status"]) for row in rows] == [("a", "pending"), ("b", "skipped")]


def test_a_request_that_was_marked_interrupted_stays_so_for_each_of_its_tracers(stored: StoreUnderTest) -> None:
    for name in ("a", "b"):
        stored.put(complete(tracer_name=name, tracer_type="A", tracer_config={}, status=INTERRUPTED))
    assert stored.request["status"] == INTERRUPTED
    assert len(stored.rows("SELECT * FROM delivery")) == 2


def test_a_node_left_open_by_a_complete_request_ends_with_its_process(stored: StoreUnderTest) -> None:
    stored.put(start(1), start(2), complete(), end(1))
    stored.reopen()
    assert stored.end() == []
    assert stored.request["status"] == COMPLETED
    assert [found["status"] for found in stored.nodes] == [NODE_OK, NODE_INTERRUPTED]


def test_a_node_that_begins_after_the_end_of_its_request_ends_with_its_process(stored: StoreUnderTest) -> None:
    stored.put(complete())
    stored.put(start())
    assert stored.end() == []
    assert stored.node["status"] == NODE_INTERRUPTED


def test_a_complete_request_with_nothing_open_is_not_remembered_for_any_journal(stored: StoreUnderTest) -> None:
    stored.put(begin(), start(1), start(2), end(1), complete())
    assert len(stored.rows("SELECT * FROM request_journal")) == 1
    stored.put(end(2))
    assert stored.rows("SELECT * FROM request_journal") == []


@pytest.mark.parametrize("tracers", [[["only", "two"]], "nonsense", [1], [[None, None, None]], {"a": 1}])
def test_nonsense_about_tracers_never_keeps_a_journal_from_ending(stored: StoreUnderTest, tracers: object) -> None:
    stored.put(node(), begin(tracers=tracers))
    assert stored.end() == ["r"]


# -- odd values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("start_time", "yesterday", "yesterday"),
        ("end_time", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ("start_time", 2**63, 2**63),
        ("end_time", {"not": "a time"}, {"not": "a time"}),
        ("prompt_tokens", "many", "many"),
        ("total_tokens", 2**64 - 1, 2**64 - 1),
        ("execution_order", 1.5, 1.5),
        ("cost_usd", "free", "free"),
        ("cost_usd", math.nan, "nan"),
        ("duration_ms", math.inf, "inf"),
        ("cached_tokens", [1], [1]),
        ("parent_span", 2**63, 2**63),
    ],
)
def test_what_a_column_cannot_hold_is_kept_in_the_metadata(
    stored: StoreUnderTest, field: str, value: object, kept: object
) -> None:
    stored.put(node(**{field: value}, metadata={"own": 1}))
    assert json.loads(stored.node["metadata"]) == {"own": 1, f"hush.{field}": kept}
    assert stored.node[field.replace("_time", "_ns")] is None
    assert stored.refused == []


def test_metadata_that_is_no_mapping_is_kept_beside_what_did_not_fit(stored: StoreUnderTest) -> None:
    stored.put(node(start_time="yesterday", metadata=[1, 2]))
    assert json.loads(stored.node["metadata"]) == {"metadata": [1, 2], "hush.start_time": "yesterday"}


@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens", "total_tokens"])
def test_a_sum_that_grows_beyond_its_column_stays_at_the_most_it_holds(stored: StoreUnderTest, field: str) -> None:
    stored.put(node(**{field: 2**63 - 1}), node(**{field: 2**63 - 1}))
    assert stored.request[field] == 2**63 - 1


@pytest.mark.parametrize("request_id", [None, 5, "", ["a"], b"\xff", {"x": 1}])
def test_a_request_id_of_any_type_is_kept_as_text(stored: StoreUnderTest, request_id: object) -> None:
    stored.put(node(request_id=request_id), complete(request_id=request_id))
    assert isinstance(stored.request["request_id"], str)
    assert (stored.request["status"], stored.request["node_count"]) == (COMPLETED, 1)


def test_bytes_and_infinities_in_values_are_visible(stored: StoreUnderTest) -> None:
    stored.put(node(input_data={"b": b"\x00\xff", "n": math.nan, "i": -math.inf}))
    assert json.loads(stored.node["input_data"]) == {"b": {"$bytes": "AP8="}, "n": "nan", "i": "-inf"}


@pytest.mark.parametrize(
    "record",
    [
        b"", b"\xc1", b"\x00", b"\x93", b"\x90", b"garbage", b"\xdc", b"\xdc\x00",
        msgspec.msgpack.encode([99, "r"]), msgspec.msgpack.encode({1: 1}), msgspec.msgpack.encode("text"),
        msgspec.msgpack.encode([None]), b"\x81\x01\x01",
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_read_is_set_aside_and_counted_and_the_others_are_stored(
    stored: StoreUnderTest, record: bytes
) -> None:
    stored.put(node(node_name="before"), record, node(node_name="after"))
    assert stored.refused == [record]
    assert [found["node_name"] for found in stored.nodes] == ["before", "after"]
    (state,) = stored.store.journals().values()
    assert (state.stored, state.set_aside) == (2, 1)


anything: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=6)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from([2**63, 2**64 - 1, -(2**63)])
    | st.sampled_from(["failed", "ERROR", "9999-12-31", "2024-01-01T00:00:00Z"]) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text("ab", max_size=2) | st.integers(0, 3) | st.tuples(st.integers(0, 2)), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


records_of_anything = st.builds(
    lambda kind, fields: [kind, *fields], st.integers(0, 7), st.lists(anything, max_size=34)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(records_of_anything, max_size=5))
def test_whatever_records_hold_each_is_stored_or_set_aside_and_none_stops_the_writer(
    stored: StoreUnderTest, records: list[list[Any]]
) -> None:
    before = stored.store.journals().get("00" * 16)
    counted = before.stored + before.set_aside if before else 0
    stored.put(*map(msgspec.msgpack.encode, records))
    (state,) = stored.store.journals().values()
    origins = sum(record[0] == ORIGIN for record in records)
    assert state.stored + state.set_aside - counted >= len(records) - origins
    assert state.stored + state.set_aside - counted <= len(records)
    assert stored.row("PRAGMA integrity_check") == {"integrity_check": "ok"}
    stored.end()
